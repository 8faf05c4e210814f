# The life of the packages on a node: install, measure, upgrade, bad configuration, remove, purge.
# Sourced by the suite's script; each `check` is a test.
passed=0
failed=0
check() {
  name=$1
  shift
  if "$@" > /tmp/check.log 2>&1; then
    echo "test $name ... ok"
    passed=$((passed + 1))
  else
    echo "test $name ... FAILED"
    sed 's/^/    /' /tmp/check.log | tail -40
    failed=$((failed + 1))
  fi
}
# Waits up to two minutes for a command to succeed.
until_true() {
  for _ in $(seq 240); do
    "$@" && return 0
    sleep 0.5
  done
  echo "not within two minutes: $*"
  journalctl --no-pager -n 30 -u trimtab-agent -u trimtab-autoscaler
  return 1
}
export DEBIAN_FRONTEND=noninteractive
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

# The agent dies, is upgraded, gets a bad configuration: no count is lost.
counted=$(bystander_us)
first=$(systemctl show -P MainPID trimtab-agent)
kill -9 "$first"
another() { test "$(systemctl show -P MainPID trimtab-agent)" != "$first" && node_connected; }
check "systemd starts a killed agent again" until_true another
echo '# changed by its owner' >> /etc/trimtab/agent.toml
upgrade() { dpkg -i $new; }
version() { dpkg-query -W -f '${Version}' trimtab-agent | grep -q 0.2.0 && until_true node_connected; }
counts_go_on() { test "$(bystander_us)" -gt "$counted"; }
kept() { grep -q '^# changed by its owner' /etc/trimtab/agent.toml; }
check "an upgrade succeeds" upgrade
check "the new version runs" version
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

# Leaving.
remove() { dpkg -r trimtab-agent && ! systemctl is-active trimtab-agent; }
purge() { dpkg -P trimtab-agent trimtab-autoscaler trimtab; }
left() {
  find /etc/trimtab /var/lib/trimtab* /var/lib/private/trimtab* /usr/bin/trimtab* /etc/systemd/system/*trimtab* /etc/systemd/system/*/trimtab* 2> /dev/null |
    grep -v -e launch.d -e '^/etc/trimtab$' -e trimtab-agent.service.d | tee /dev/stderr | grep -q . && return 1
  return 0
}
check "the agent is removed" remove
check "everything is purged" purge
check "nothing of ours is left but what the owner wrote" left
systemctl stop bystander
echo "test result: $([ $failed = 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored"
[ $failed = 0 ] || status=1
