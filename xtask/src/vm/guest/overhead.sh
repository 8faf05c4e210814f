# What the agent costs beside the same machine without it: 300 groups with a process each, a thirtieth of which does something once a second.
# Figures, no limits: in emulation only their ratio means something. Follows checks.sh.
install_all() { dpkg -i /payload/new/*.deb && systemctl stop trimtab-agent trimtab-autoscaler; }
check "the packages install" install_all
mkdir /sys/fs/cgroup/population
for number in $(seq 300); do
  group=/sys/fs/cgroup/population/g$number
  mkdir "$group"
  if [ $((number % 30)) = 0 ]; then work='while :; do sleep 1; done'; else work='exec sleep 1000'; fi
  sh -c "echo \$\$ > $group/cgroup.procs; $work" > /dev/null 2>&1 &
done
busy_ms() { awk '/^cpu /{ print ($2 + $3 + $4 + $7 + $8) * 10 }' /proc/stat; }
own_us() { sed -n 's/usage_usec //p' /sys/fs/cgroup/system.slice/trimtab-agent.service/cpu.stat; }
# What the machine computes in a minute, ms.
minute() {
  sleep 10
  before=$(busy_ms)
  sleep 60
  after=$(busy_ms)
}
minute
without=$((after - before))
systemctl start trimtab-autoscaler trimtab-agent
connected() { trimtab get nodes -o json | grep -q '"connected": *true'; }
check "the node is connected" until_true connected
populated() { test "$(curl -s "http://127.0.0.1:7782/metrics" | sed -n 's/^trimtab_agent_tasks //p')" -gt 300; }
check "all groups are measured" until_true populated
own=$(own_us)
minute
with=$((after - before))
own=$((($(own_us) - own) / 1000))
# The ten seconds before the minute are in it: seventy seconds.
echo "figure: machine without Trimtab, ms of CPU a minute = $without"
echo "figure: machine with agent and autoscaler, ms of CPU a minute = $with"
echo "figure: agent alone, 300 groups, ms of CPU a minute = $((own * 60 / 70))"
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$(systemctl show -P MainPID trimtab-agent)/status"; }
echo "figure: agent, resident KiB = $(resident)"
# What it is made of; of the largest mappings, for whoever wonders.
rollup() { awk -v what="$1:" '$1 == what { print $2 }' "/proc/$(systemctl show -P MainPID trimtab-agent)/smaps_rollup"; }
echo "figure: agent, of it anonymous KiB = $(rollup Anonymous)"
echo "figure: agent, of it in huge pages KiB = $(rollup AnonHugePages)"
awk '/^[0-9a-f]+-/ { name = $2 " " $6 } $1 == "Rss:" { sum[name] += $2 } END { for (n in sum) print sum[n], "KiB", n }' \
  "/proc/$(systemctl show -P MainPID trimtab-agent)/smaps" | sort -rn | head -12
check "neither was started again" test "$(systemctl show -P NRestarts trimtab-agent trimtab-autoscaler | tr -d '\n')" = 00
finish
