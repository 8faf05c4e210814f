# Latency-critical beside best-effort work under systemd: what the kernel is told, the dead-man, the way back. Follows checks.sh.
mkdir -p /etc/systemd/system/trimtab-agent.service.d
install_all() { dpkg -i /payload/new/*.deb; }
check "the packages install" install_all
cp /usr/share/trimtab-agent/acting.conf /etc/systemd/system/trimtab-agent.service.d/
sed -i 's/^act = false/act = true/' /etc/trimtab/agent.toml
launcher() { printf 'command = ["/bin/sh", "-c", "%s"]\nuser = "trimtab-task"\n[limits]\ncpu = "300m"\nmemory = "64Mi"\n' "$2" > "/etc/trimtab/launch.d/$1.toml"; }
launcher serve 'while :; do sleep 0.2; done'
launcher busy 'while :; do :; done'
workload() {
  cat > "/tmp/$1.yaml" << T
apiVersion: trimtab/v1
kind: Workload
metadata: { name: $1 }
spec:
  type: service
  class: $2
  replicas: { min: 1, max: 1 }
  target: { cpu: 90% }
  size: { memory: 64Mi }
  mode: auto
  service: { launcher: $3 }
T
  trimtab apply -f "/tmp/$1.yaml" --yes
}
systemctl daemon-reload
systemctl restart trimtab-agent
connected() { trimtab get nodes -o json | grep -q '"connected": *true'; }
check "the node is connected" until_true connected
check "latency-critical work is applied" workload web latency-critical serve
check "best-effort work is applied" workload jobs best-effort busy

group() { find /sys/fs/cgroup/trimtab.slice -type d -name "trimtab-task-$1-*.service" | head -1; }
says() { f="$(group "$1")/$2"; echo "$f: $(cat "$f")" >&2; test "$(cat "$f")" = "$3"; }
check "best-effort work is in the idle class of CPU" until_true says jobs cpu.idle 1
check "latency-critical work is not" until_true says web cpu.idle 0
check "latency-critical work has its memory protected" until_true says web memory.low 67108864
check "best-effort work is slowed before it is killed" until_true says jobs memory.high 60395520
own_quota() { test "$(cut -d' ' -f1 "$(group web)/cpu.max")" = 30000; }
check "the quota of latency-critical work is its own" own_quota
shown() { trimtab-agent qos | tee /dev/stderr | grep -q 'jobs-' && trimtab-agent qos | grep -q 'web-'; }
check "trimtab-agent qos shows both" until_true shown
watched() { systemctl is-active trimtab-deadman.service; }
check "a watcher is there, in a unit of its own" until_true watched

# Without an agent best-effort work is frozen, and nothing else.
frozen() { grep -q '^frozen 1' "$(group "$1")/cgroup.events"; }
before=$(cat "$(group jobs)/cgroup.procs" | head -1)
systemctl stop trimtab-agent
sleep 5
not_yet() { ! frozen jobs; }
check "five seconds without an agent change nothing" not_yet
check "then best-effort work is frozen" until_true frozen jobs
lives() { ! frozen web; }
check "latency-critical work goes on" lives
systemctl start trimtab-agent
thawed() { ! frozen jobs; }
check "the next agent thaws it" until_true thawed
same_process() { test "$(cat "$(group jobs)/cgroup.procs" | head -1)" = "$before"; }
check "it is the same process" same_process
told() { journalctl --no-pager -u trimtab-agent | grep -i 'dead-man' | tee /dev/stderr | grep -q .; }
check "the log says what was frozen meanwhile" told
check "the node is connected again" until_true connected

# Another class for a running task, and an end of best-effort work.
check "the class is changed" workload jobs standard busy
check "the running task leaves the idle class" until_true says jobs cpu.idle 0
check "without a restart" same_process
unwatched() { ! systemctl is-active trimtab-deadman.service; }
check "nobody watches any more" until_true unwatched
finish
