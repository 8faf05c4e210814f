# The life of the packages on a node: install, measure, act, upgrade, bad configuration, remove, purge.
# Follows checks.sh in the suite's script.
old="/payload/old/*.deb"
new="/payload/new/*.deb"

install_old() { dpkg -i $old; }
both_active() { systemctl is-active trimtab-agent trimtab-autoscaler; }
node_connected() { trimtab get nodes -o json | grep -q '"connected": *true'; }
tier_a() { trimtab get nodes -o json | tee /dev/stderr | grep -q '"tier": *"A"'; }
not_root() { test "$(ps -o uid= -p "$(systemctl show -P MainPID trimtab-agent)")" -gt 0; }
only_known_failures() {
  systemctl --failed --no-legend --plain > /tmp/failed
  cat /tmp/failed
  ! grep -q trimtab /tmp/failed
}
exposed() { systemd-analyze security --no-pager --threshold="$2" "$1"; }
doctor() { trimtab doctor; }

check "the packages install" install_old
check "both services run" until_true both_active
check "the node is connected" until_true node_connected
check "the node measures with kernel programs" tier_a
check "the agent is not root" not_root
check "no unit of ours failed" only_known_failures
check "the running agent's exposure is at most 3.0" exposed trimtab-agent 30
check "the running autoscaler's exposure is at most 1.5" exposed trimtab-autoscaler 15
check "the doctor finds nothing that fails" doctor
manual() { dpkg -L trimtab | grep -q man1/trimtab-explain-workload.1; }
check "manual pages are in the package" manual

# A service of somebody else is measured without a word of configuration.
systemd-run --quiet --unit=bystander -p CPUQuota=20% sh -c 'while :; do :; done'
bystander_us() { trimtab get tasks -o json | tr -d ' \n' | sed 's/},{/}\n{/g' | grep '"bystander.service"\|bystander' | grep -o '"cpu_time_us":[0-9]*\|"cpuTimeUs":[0-9]*' | head -1 | cut -d: -f2; }
bystander_seen() { test "$(bystander_us)" -gt 0; }
check "a service of somebody else is measured" until_true bystander_seen

# Acting: the owner says so in three files. systemd starts and ends the tasks.
mkdir -p /etc/systemd/system/trimtab-agent.service.d
cp /usr/share/trimtab-agent/acting.conf /etc/systemd/system/trimtab-agent.service.d/
sed -i 's/^act = false/act = true/' /etc/trimtab/agent.toml
cat > /etc/trimtab/launch.d/worker.toml << 'T'
command = ["/usr/bin/sleep", "infinity"]
user = "trimtab-task"
[limits]
cpu = "200m"
memory = "32Mi"
T
cat > /tmp/jobs.yaml << 'T'
apiVersion: trimtab/v1
kind: Workload
metadata: { name: night-jobs }
spec:
  type: service
  replicas: { min: 2, max: 2 }
  target: { cpu: 65% }
  mode: auto
  service: { launcher: worker }
T
systemctl daemon-reload
systemctl restart trimtab-agent
workers() { pgrep -u trimtab-task -x sleep | sort | tr '\n' ' '; }
two_workers() { test "$(workers | wc -w)" = 2; }
apply() { trimtab apply -f /tmp/jobs.yaml --yes; }
check "the node is connected after the change" until_true node_connected
check "a workload is applied" apply
check "two replicas run as the launcher's user" until_true two_workers
check "the acting agent's exposure is at most 4.0" exposed trimtab-agent 40
before=$(workers)
same_workers() {
  now=$(workers)
  test "$now" = "$before" && return 0
  journalctl --no-pager -o cat -n 60 -u trimtab-agent -u trimtab-autoscaler
  trimtab explain workload night-jobs | tail -40
  echo "before: $before now: $now"
  return 1
}
services() { systemctl list-units --no-legend --plain 'trimtab-task-night-jobs-*.service' | tee /dev/stderr | grep -c running; }
two_services() { test "$(services)" = 2; }
limits() {
  for pid in $before; do
    group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
    echo "$group $(cat "$group/cpu.max" "$group/memory.max")"
    case $group in */trimtab.slice/trimtab-night?x2djobs.slice/trimtab-task-night-jobs-*.service) ;; *) return 1 ;; esac
    test "$(cat "$group/cpu.max")" = "20000 100000" || return 1
    test "$(cat "$group/memory.max")" = 33554432 || return 1
  done
}
healthy() { trimtab get workloads -o json | tee /dev/stderr | tr -d ' \n' | grep -q '"up":2'; }
check "each is a service of systemd" two_services
check "the replicas have their limits, read from the kernel" limits
check "the autoscaler has both as ready" until_true healthy

# The agent dies, is upgraded, gets a bad configuration: no task notices, no count is lost.
counted=$(bystander_us)
first=$(systemctl show -P MainPID trimtab-agent)
kill -9 "$first"
another() { test "$(systemctl show -P MainPID trimtab-agent)" != "$first" && node_connected; }
check "systemd starts a killed agent again" until_true another
check "no task ended with it" same_workers
echo '# changed by its owner' >> /etc/trimtab/agent.toml
upgrade() { dpkg -i $new; }
version() { dpkg-query -W -f '${Version}' trimtab-agent | grep -q 0.2.0 && until_true node_connected; }
counts_go_on() { test "$(bystander_us)" -gt "$counted"; }
kept() { grep -q '^# changed by its owner' /etc/trimtab/agent.toml; }
check "an upgrade succeeds" upgrade
check "the new version runs" version
check "no task ended in the upgrade" same_workers
check "the count that was there goes on" until_true counts_go_on
check "the owner's configuration is kept" kept
pid=$(systemctl show -P MainPID trimtab-agent)
cp /etc/trimtab/agent.toml /tmp/good.toml
echo 'nonsense = yes' >> /etc/trimtab/agent.toml
reinstall() { dpkg -i /payload/new/trimtab-agent_*.deb 2>&1 | tee /tmp/said; grep -q 'configuration is bad' /tmp/said; }
still() { test "$(systemctl show -P MainPID trimtab-agent)" = "$pid" && systemctl is-active trimtab-agent; }
check "an upgrade names a bad configuration" reinstall
check "and leaves the running agent alone" still
cp /tmp/good.toml /etc/trimtab/agent.toml

# A task that dies is replaced, and what it used is known to the last microsecond.
check "the node is connected again" until_true node_connected
victim=${before%% *}
kill -9 "$victim"
replaced() { two_workers && ! workers | grep -qw "$victim"; }
check "a task that dies is replaced" until_true replaced
journalled() { journalctl --no-pager -u 'trimtab-agent' | grep -q 'from="Running" to="Emptying"'; }
check "its end was seen" journalled
forgotten() { test "$(systemctl list-units --all --no-legend --plain 'trimtab-task-*' | tee /dev/stderr | wc -l)" = 2; }
check "what ended is forgotten by systemd" until_true forgotten
before=$(workers)

# Leaving.
remove() { dpkg -r trimtab-agent && ! systemctl is-active trimtab-agent; }
purge() { dpkg -P trimtab-agent trimtab-autoscaler trimtab; }
left() {
  find /etc/trimtab /var/lib/trimtab* /var/lib/private/trimtab* /usr/bin/trimtab* /etc/systemd/system/*trimtab* /etc/systemd/system/*/trimtab* 2> /dev/null |
    grep -v -e launch.d -e '^/etc/trimtab$' -e trimtab-agent.service.d | tee /dev/stderr | grep -q . && return 1
  return 0
}
check "the agent is removed" remove
check "its tasks go on" same_workers
check "everything is purged" purge
check "nothing of ours is left but what the owner wrote" left
systemctl stop bystander 'trimtab-task-*'

# The same by rpm, where nothing is started at the first installation. (Its own database knows nothing of this Debian.)
rm -rf /etc/trimtab /etc/systemd/system/trimtab-agent.service.d
systemctl daemon-reload
answers() { curl -sf http://127.0.0.1:7782/livez; }
rpm_install() { rpm -i --nodeps /payload/old/*.rpm && ! systemctl is-active trimtab-agent; }
rpm_start() { systemctl enable --now trimtab-agent && until_true answers; }
rpm_upgrade() { rpm -U --nodeps /payload/new/*.rpm && rpm -q trimtab-agent | grep -q 0.2.0 && until_true answers; }
restarted() { test "$(systemctl show -P MainPID trimtab-agent)" != "$first"; }
rpm_remove() { rpm -e trimtab-agent trimtab-autoscaler trimtab && ! systemctl is-active trimtab-agent; }
check "the .rpm files install, and start nothing" rpm_install
check "the agent starts when it is told to" rpm_start
first=$(systemctl show -P MainPID trimtab-agent)
echo '# changed by its owner' >> /etc/trimtab/agent.toml
check "an upgrade by .rpm succeeds" rpm_upgrade
check "and restarts what runs" restarted
check "and keeps the owner's configuration" kept
check "the .rpm files are removed" rpm_remove

# A host whose /usr cannot be written, and without packages: an archive, and the program installs itself.
rm -rf /etc/trimtab /var/lib/trimtab-agent /var/lib/private/trimtab-agent
mount --bind -o ro /usr /usr
mount -o remount,bind,ro /usr
tar -xzf /payload/old/trimtab-agent-*.tar.gz -C /tmp
tar -xzf /payload/new/trimtab-agent-*.tar.gz -C /tmp
frozen() { ! touch /usr/bin/x; }
self_install() { /tmp/trimtab-agent-0.1.0-*/trimtab-agent install && until_true answers; }
self_kernel() { curl -sf http://127.0.0.1:7782/metrics | grep -q '^trimtab_agent_info{.*tier="A"} 1'; }
self_upgrade() { /tmp/trimtab-agent-0.2.0-*/trimtab-agent install && until_true answers; }
self_purge() { /var/opt/trimtab/bin/trimtab-agent uninstall --purge && ! systemctl is-active trimtab-agent; }
nothing_left() { ! find /etc /var /run/systemd -name '*trimtab*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/rpm/*' -not -path '/var/lib/systemd/*' | tee /dev/stderr | grep -q .; }
check "/usr cannot be written" frozen
check "the agent installs itself" self_install
check "and measures with kernel programs" until_true self_kernel
first=$(systemctl show -P MainPID trimtab-agent)
echo '# changed by its owner' >> /etc/trimtab/agent.toml
check "a newer one upgrades it" self_upgrade
check "and restarts it" restarted
check "and keeps the owner's configuration, too" kept
check "its exposure is the same" exposed trimtab-agent 30
check "it removes itself" self_purge
check "nothing is left" nothing_left
finish
