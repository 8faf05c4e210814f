# An autoscaler and three nodes on a network, from packages, under their own units: joined by tokens, placed on, cut off, healed.
# Follows checks.sh and peers.sh; each machine runs it.
nodes="n1 n2 n3"
if [ "$(cat /proc/sys/kernel/hostname)" != scale ]; then
  echo "10.77.0.1 scale.example" >> /etc/hosts
  dpkg -i /payload/new/trimtab-agent_*.deb > /tmp/install.log 2>&1
  mkdir -p /etc/systemd/system/trimtab-agent.service.d
  cp /usr/share/trimtab-agent/acting.conf /etc/systemd/system/trimtab-agent.service.d/
  sed -i 's/^act = false/act = true/' /etc/trimtab/agent.toml
  printf 'command = ["/usr/bin/sleep", "infinity"]\nuser = "trimtab-task"\n[limits]\ncpu = "100m"\nmemory = "16Mi"\n' > /etc/trimtab/launch.d/worker.toml
  systemd-run --quiet --unit=bystander -p CPUQuota=5% sh -c 'while :; do :; done'
  serve
fi

install_here() { dpkg -i /payload/new/trimtab-autoscaler_*.deb /payload/new/trimtab_*.deb; }
installed() { on "$1" 'cat /tmp/install.log; dpkg-query -W trimtab-agent'; }
check "the autoscaler and the command install" install_here
for node in $nodes; do check "the agent installs on $node" installed "$node"; done

# As README.md says it.
listen() {
  printf 'listen = ["127.0.0.1:7781", "unix:/run/trimtab/agents.sock", "https://0.0.0.0:7783"]\n[tls]\nnames = ["scale.example"]\n' > /etc/trimtab/autoscaler.d/tls.toml
  install -D -m 644 /usr/share/trimtab-autoscaler/network.conf /etc/systemd/system/trimtab-autoscaler.service.d/network.conf
  systemctl daemon-reload && systemctl restart trimtab-autoscaler
}
open() { on n1 'timeout 5 bash -c ": < /dev/tcp/scale.example/7783"'; }
token() { trimtab --quiet node join-token "$1"; }
joins() {
  on "$1" "install -D -m 644 /usr/share/trimtab-agent/network.conf /etc/systemd/system/trimtab-agent.service.d/network.conf
    echo $2 | trimtab-agent join --node $1 --autoscaler https://scale.example:7783"
}
start() { on "$1" 'systemctl daemon-reload && systemctl restart trimtab-agent'; }
refused() { ! joins "$1" "$2" > /tmp/said 2>&1 && cat /tmp/said && grep -q "$3" /tmp/said; }
check "the autoscaler listens with TLS" listen
check "a node reaches it" until_true open
other=$(token n2)
check "a token for another node is refused" refused n1 "$other" 'for node `n2`, not for `n1`'
for node in $nodes; do
  token=$(token "$node")
  check "$node joins with its token" joins "$node" "$token"
  check "$node starts" start "$node"
done
check "a token that was used is refused" refused n3 "$token" 'was used before'

get() { trimtab get "$@" -o json; }
fresh() { get nodes | tee /dev/stderr | jq -e '[.items[] | select(.connected and .acts and .tier == "A" and .ageMs < 5000 and .samples > 5)] | length == 3'; }
node_is() { get nodes | jq -ce --arg node "$1" ".items[] | select(.name == \$node) | $2"; }
check "three nodes stream" until_true fresh

# A node that says another's name is refused: its certificate names it.
pretend() { on n3 'echo "node = \"n1\"" > /etc/trimtab/agent.d/zz-pretend.toml; systemctl restart trimtab-agent'; }
told() { journalctl --no-pager -u trimtab-autoscaler | grep -e "certificate.*n3" | tee /dev/stderr | grep -q 'n1'; }
honest() { on n3 'rm /etc/trimtab/agent.d/zz-pretend.toml; systemctl restart trimtab-agent'; }
check "n3 calls itself n1" pretend
check "that is refused: n3 is who its certificate says" until_true told
check "n3 tells the truth again" honest
check "three nodes stream again" until_true fresh

cat > /tmp/jobs.yaml << 'T'
apiVersion: trimtab/v1
kind: Workload
metadata: { name: jobs }
spec:
  type: service
  replicas: { min: 4, max: 4 }
  target: { cpu: 90% }
  mode: auto
  service: { launcher: worker }
  behavior: { stopGrace: 5s }
T
apply() { trimtab apply -f /tmp/jobs.yaml --yes; }
# What runs, counted by the guests: the units' names, one a line.
running() { on "$1" "systemctl list-units --no-legend --plain --state=running 'trimtab-task-jobs-*.service' | cut -d' ' -f1"; }
everywhere() { for node in $nodes; do running "$node"; done; }
run() { test "$(everywhere | tee /dev/stderr | wc -l)" = "$1"; }
processes() { for node in $nodes; do on "$node" 'pgrep -u trimtab-task -x sleep'; done | wc -l; }
up() { get workloads | tee /dev/stderr | jq -e --argjson up "$1" '.items[0] | .up == $up and .starting == 0 and .leaving == 0'; }
is_spread() {
  get nodes | jq -c '.items[] | [.name, .cpuCores, .memoryBytes, .memoryTotalBytes, .ageMs]'
  for node in $nodes; do
    here=$(running "$node" | wc -l)
    echo "$node: $here"
    test "$here" -le 2 || return 1
  done
}
quiet() { get nodes | jq -ce '[.items[].cpuCores // 9] | max < 0.4'; }
check "the nodes have come to rest" until_true quiet
check "a workload of four is applied" apply
check "four are up" until_true up 4
check "four run" run 4
check "they are spread" is_spread
reserved() { get nodes | jq -ce '[.items[].reserved | .replicas, .withoutSize] | add' | tee /dev/stderr | grep -qx 8; }
check "each node says what is given there, and that it has no size" until_true reserved

# Bytes over the network card of a node, by itself before and after, and by its agent between the two.
network_of() {
  sent() { on "$1" 'for device in /sys/class/net/*/device; do cat "${device%/device}/statistics/tx_bytes"; done' | awk '{ sum += $1 } END { printf "%d", sum }'; }
  before=$(sent "$1"); sleep 5
  told=$(get nodes | jq -r --arg node "$1" '.items[] | select(.name == $node) | .network.sentBytes')
  after=$(sent "$1")
  echo "$1: $before, $told, $after"
  test "$before" -le "$told" && test "$told" -le "$after"
}
for node in $nodes; do check "the network of $node is what its card counts" until_true network_of "$node"; done

# A node is emptied for its owner's work: started elsewhere first, ended there after.
# Notes again and again how many take part, and how many are counted, until it is told to end.
watch() {
  rm -f /tmp/enough
  (
    until [ -e /tmp/enough ]; do
      get workloads | jq -r '.items[0] | "\(.up) \(.up + .starting)"'
      sleep 0.3
    done > /tmp/seen
  ) &
  watcher=$!
}
enough() {
  touch /tmp/enough
  wait $watcher
  sort /tmp/seen | uniq -c
}
foretold() { trimtab drain n1 --dry-run | tee /dev/stderr | grep -q '^jobs .* yes$'; }
empty() { trimtab drain n1 --reason 'a new kernel' --wait --timeout 240; }
none() { test "$(running n1 | tee /dev/stderr | wc -l)" = 0; }
never_fewer() { enough && test "$(cut -d' ' -f1 /tmp/seen | sort -n | head -1)" -ge 4; }
drained() { trimtab get nodes | tee /dev/stderr | grep -q 'n1 *connected, drained'; }
moved() { get decisions | tee /dev/stderr | jq -e '.items[] | select(.kind == "move" and .act and .reasons[0].code == "node_drained")'; }
no_room() { ! trimtab drain "$1" > /tmp/said 2>&1 && cat /tmp/said && grep -q "$2" /tmp/said; }
return_it() { trimtab uncordon n1; }
check "what a drain takes is told before" foretold
watch
check "n1 is drained" empty
check "nothing is left there" none
check "never were fewer than four up" never_fewer
check "four run on the others" until_true run 4
check "it is shown as drained" drained
check "the decision says why" moved
check "a node that is not there cannot be drained" no_room n9 'there is no node'
check "n1 is returned" return_it
emptied() { for node in "$@"; do trimtab drain "$node" --wait --timeout 240 || return 1; done; }
all_on() { test "$(running "$1" | wc -l)" = 4; }
check "both others are emptied" emptied n2 n3
check "what was there runs on n1" all_on n1
check "n1 cannot be emptied, too: nobody is left to take its replicas" no_room n1 '4 of workload jobs would stay'
used() { for node in "$@"; do trimtab uncordon "$node" || return 1; done; }
check "n3 is returned" used n3
check "n1 is emptied" emptied n1
check "all run on n3" all_on n3
check "the others are returned" used n1 n2

# One node is cut off, without a word: it is away soon, and what ran there runs elsewhere as well.
here=$(running n3 | wc -l)
ended_in_it() { on n3 'systemd-run --quiet --unit=brief -p RuntimeMaxSec=8 sh -c "while :; do :; done"; until systemctl is-failed --quiet brief; do sleep 0.5; done'; }
at=$(date +%s%3N)
cut_off() { link n3 off; }
lost() { journalctl --no-pager -u trimtab-autoscaler --since "@$((at / 1000))" -o json | jq -re 'select(.MESSAGE | test("node counts as lost.*n3")) | .__REALTIME_TIMESTAMP' | tail -1 | grep .; }
watch
check "n3 is cut off" cut_off
check "a task begins there and ends there meanwhile" ended_in_it
check "the autoscaler says that n3 is lost" until_true lost
after=$(($(lost) / 1000 - at))
echo "n3 was said to be lost $after ms after it was cut"
soon() { echo "$after ms"; test "$after" -le 30000; }
check "that took no longer than emulation explains" soon
away() { node_is n3 '.connected | not'; }
check "it is shown as not connected" away
elsewhere() { test "$( (running n1; running n2) | tee /dev/stderr | wc -l)" = 4; }
check "four run on the others" until_true elsewhere
check "four are up again" until_true up 4
still() { test "$(running n3 | tee /dev/stderr | wc -l)" = "$here"; }
check "what n3 runs goes on there" still
bounded() {
  enough
  most=$(cut -d' ' -f2 /tmp/seen | sort -n | tail -1)
  echo "at most $most"
  test "$most" -le 4
}

# It comes back by itself: what is too much ends, and nothing that it measured is missing.
back() { link n3 on; }
came() { node_is n3 '.connected and .ageMs < 5000'; }
check "the link returns" back
healed=$(date +%s%3N)
check "n3 is connected by itself" until_true came
check "exactly four run everywhere" until_true run 4
four_processes() { test "$(processes)" = 4; }
check "each is one process" four_processes
unique() { test -z "$(everywhere | sort | uniq -d)"; }
check "no name is there twice" unique
check "four are up after all" until_true up 4
check "never were more counted than the maximum" bounded
known_end() { get tasks --ended | tee /dev/stderr | jq -e '.items[] | select(.node == "n3" and (.name | test("brief")) and .cpuTotalUs > 0)'; }
check "the task that ended meanwhile is known with what it used" until_true known_end
freeze() { on n3 'systemctl freeze bystander'; }
kernel() { on n3 "sed -n 's/^usage_usec //p' /sys/fs/cgroup/system.slice/bystander.service/cpu.stat"; }
exact() { test "$(get tasks --node n3 | jq '.items[] | select(.name | test("bystander")) | .totals.cpu_time_us' | tee /dev/stderr)" = "$(kernel)"; }
check "a bystander of n3 is stopped" freeze
check "its total is the kernel's, to the microsecond" until_true exact
whole() {
  curl -sf "http://127.0.0.1:7780/api/v1/history?node=n3&step=1&fromMs=$((at + 2000))&toMs=$((healed - 1000))" | tee /dev/stderr |
    jq -e '(.values | length) as $all | $all > 5 and ([.values[] | select(. != null)] | length) >= $all * 9 / 10'
}
check "the history of the time without a link is there" until_true whole
finish
