# Tasks that take what others need: a disk that is too slow for them (vdc, 8 MB/s), and all process ids of the machine. Follows checks.sh.
mkdir -p /etc/systemd/system/trimtab-agent.service.d
install_all() { dpkg -i /payload/new/*.deb; }
check "the packages install" install_all
cp /usr/share/trimtab-agent/acting.conf /etc/systemd/system/trimtab-agent.service.d/
sed -i 's/^act = false/act = true/' /etc/trimtab/agent.toml
# launcher NAME COMMAND: as root, because the disk is root's.
launcher() { printf 'command = ["/bin/sh", "-c", "%s"]\nallow_root = true\n[limits]\ncpu = "500m"\nmemory = "64Mi"\n' "$2" > "/etc/trimtab/launch.d/$1.toml"; }
launcher ledger 'while :; do dd if=/dev/vdc of=/dev/null bs=4k count=1 skip=1000 iflag=direct 2> /dev/null; done'
launcher copy 'while :; do dd if=/dev/zero of=/dev/vdc bs=8M count=4 oflag=direct 2> /dev/null; done'
launcher idle 'exec sleep infinity'
workload() {
  cat > "/tmp/$1.yaml" << T
apiVersion: trimtab/v1
kind: Workload
metadata: { name: $1 }
spec:
  type: service
  replicas: { min: $3, max: $3 }
  target: { cpu: 90% }
  size: { memory: 64Mi }
  mode: auto
  service: { launcher: $2 }
T
  trimtab apply -f "/tmp/$1.yaml" --yes
}
systemctl daemon-reload
systemctl restart trimtab-agent
get() { trimtab get "$@" -o json; }
connected() { get nodes | jq -e '.items[0].connected'; }
up() { get workloads | jq -e --arg name "$1" --argjson count "$2" '.items[] | select(.name == $name) | .up == $count'; }
check "the node is connected" until_true connected
check "a workload that reads the disk now and then is applied" workload ledger ledger 1
check "it runs" until_true up ledger 1

# Bytes are the kernel's own.
total() { get tasks | jq -e --arg workload "$1" --arg metric "$2" '[.items[] | select(.workload == $workload) | .totals[$metric]] | add // 0'; }
reads() { test "$(total ledger io_read_bytes)" -gt 100000; }
check "what it reads is measured" until_true reads

# What a NodeManager starts has a cgroup of its own below its service, which systemd has left to it.
id=container_e17_1795246453454_0002_01_000002
cat > /etc/trimtab/launch.d/manager.toml << T
command = ["/bin/sh", "-c", "setsid env CONTAINER_ID=$id sh -c 'while :; do sleep 0.2; done' & while :; do sleep 1; done"]
allow_root = true
leaves = true
T
systemctl reload trimtab-agent
check "a workload whose launcher says leaves is applied" workload batch manager 1
check "it runs as well" until_true up batch 1
service() { systemctl list-units --no-legend --plain 'trimtab-task-batch-*.service' | cut -d' ' -f1; }
delegated() { test "$(systemctl show -P Delegate "$(service)")" = yes; }
check "its service is delegated" delegated
in_leaf() { grep -q . "/sys/fs/cgroup$(systemctl show -P ControlGroup "$(service)")/$id/cgroup.procs"; }
check "its container is in a leaf" until_true in_leaf
counted() { get tasks | jq -e --arg id "$id" '.items[] | select(.name == $id) | .workload == "batch" and .totals.cpu_time_us > 0'; }
check "and is counted by itself, as part of its workload" until_true counted
withdrawn() { trimtab delete workload batch --yes; }
check "the workload is withdrawn" withdrawn
none_left() { systemctl stop "$(service)"; ! ls -d /sys/fs/cgroup/trimtab.slice/*/"trimtab-task-batch-1.service"; }
check "its service ends with its leaf" until_true none_left

# A second one writes without end.
check "a workload that fills the disk's queue is applied" workload copies copy 1
check "it runs, too" until_true up copies 1
began=$(date +%s%3N)
named() { get workloads; trimtab explain workload ledger | tee /dev/stderr | grep -q 'copies-[0-9]* moves [0-9]* % of what tasks move here'; }
check "the one that waits says for whom" until_true named
journalctl --no-pager -o short-unix -u trimtab-agent | grep -m1 'waited for a disk' > /tmp/word
echo "figure: from both running to the word about it, ms at most = $(( $(cut -d. -f1 /tmp/word) * 1000 + 1000 - began ))"
group() { find /sys/fs/cgroup/trimtab.slice -type d -name "trimtab-task-$1-*.service" | head -1; }
written() { sed -n 's/.* wbytes=\([0-9]*\).*/\1/p' "$(group copies)/io.stat" | head -1; }
halt() { systemctl freeze "$(basename "$(group copies)")"; }
check "it is stopped for a look" halt
same() { kernel=$(written); store=$(total copies io_written_bytes); echo "kernel $kernel store $store"; test "$kernel" -gt 8000000 && test "$kernel" = "$store"; }
check "its bytes are the kernel's, to the byte" until_true same
quiet() { ! trimtab explain workload ledger | tee /dev/stderr | grep -q 'waited for a disk'; }
check "the other no longer waits, and no longer says so" until_true quiet
check "it goes on" systemctl thaw "$(basename "$(group copies)")"

# Somebody else takes all process ids for 25 seconds, right after a replica was killed: what runs goes on and is measured, its
# replacement waits until there are ids again.
check "a workload of two is applied" workload pair idle 2
check "both run" until_true up pair 2
check "one that only waits is applied, too" workload calm idle 1
check "and runs" until_true up calm 1
mains() { for unit in $(systemctl list-units --no-legend --plain "trimtab-task-$1-*.service" | cut -d' ' -f1); do systemctl show -P MainPID "$unit"; done | sort -n | tr '\n' ' '; }
# Not those that start a process for each turn: they may well end when they cannot.
ours() { echo "agent $(systemctl show -P MainPID,NRestarts trimtab-agent) autoscaler $(systemctl show -P MainPID,NRestarts trimtab-autoscaler) tasks $(mains calm) $(mains pair | tr ' ' '\n' | grep -x "$survivor")" | tr '\n' ' '; }
samples() { get nodes | jq '.items[0].samples'; }
set -- $(mains pair)
survivor=$2
before=$(ours)
first=$(samples)
mkfifo /tmp/never
cat > /tmp/take << 'T'
for number in {1..2000}; do sleep 1000 & done 2> /tmp/exhausted
T
cat > /tmp/exhaust << T
kill -9 $1
bash /tmp/take &
read -r < /tmp/never
T
# Looks on without a process of its own: what it needs is open or built in.
cat > /tmp/look-on << 'T'
exec 9<> /tmp/never
until [ -s /tmp/exhausted ] || [ $SECONDS -gt 280 ]; do read -rt 1 -u 9; done
read -rt 25 -u 9
echo 1 > /sys/fs/cgroup/system.slice/exhaust.service/cgroup.kill
T
bash /tmp/look-on &
last=$!
sysctl -qw kernel.pid_max=700
systemd-run --quiet --unit=exhaust -p TasksMax=infinity -p LimitNPROC=infinity bash /tmp/exhaust
# Builtins only from here: nothing can be started.
wait $last
sysctl -qw kernel.pid_max=32768
exhausted() { tail -3 /tmp/exhausted | tee /dev/stderr | grep -q 'Resource temporarily unavailable'; }
check "there were no process ids left" exhausted
went_on() { until_true connected; now=$(samples); journalctl --no-pager -o cat -n 40 -u trimtab-autoscaler -u trimtab-agent; echo "samples $first, then $now"; test "$now" -gt "$((first + 15))"; }
check "the node was measured meanwhile" went_on
unharmed() { now=$(ours); echo "before: $before now: $now"; test "$now" = "$before"; }
check "neither daemon nor a task at rest ended" unharmed
check "the killed replica is replaced when there are ids again" until_true up pair 2
finish
