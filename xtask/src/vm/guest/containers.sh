# Containers of Docker, Podman and containerd: named, counted to the microsecond, given to a workload by a label. Follows checks.sh.
mkdir -p /etc/docker /etc/containerd /etc/containers /etc/systemd/system/podman.socket.d /etc/systemd/system/trimtab-agent.service.d /tmp/root/bin
echo '{"storage-driver": "vfs", "iptables": false, "ip6tables": false, "bridge": "none"}' > /etc/docker/daemon.json
printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers"\ngraphroot = "/var/lib/containers"\n' > /etc/containers/storage.conf
echo '{"default": [{"type": "insecureAcceptAnything"}]}' > /etc/containers/policy.json
printf '[Socket]\nSocketGroup=docker\n' > /etc/systemd/system/podman.socket.d/group.conf
cp /bin/busybox /tmp/root/bin/
ln -s busybox /tmp/root/bin/sh
ln -s busybox /tmp/root/bin/sleep
printf 'version = 2\n[grpc]\n  gid = %s\n' "$(getent group docker | cut -d : -f 3)" > /etc/containerd/config.toml
systemctl unmask --quiet containerd.service docker.socket docker.service podman.socket podman.service
systemctl start --no-block docker.service
podman_socket() { systemctl start podman.socket || { systemctl status --no-pager -l podman.socket; journalctl --no-pager -n 20; return 1; }; }

install_all() { dpkg -i /payload/new/*.deb; }
docker_runs() { docker info --format '{{.Driver}}'; }
podman_answers() { curl -sf -m 60 --unix-socket /run/podman/podman.sock http://localhost/containers/json; }
image() { tar -C /tmp/root -c . | docker import - shop:1 && tar -C /tmp/root -c . | podman import - localhost/batch:2; }
busy='i=0; while :; do i=$((i + 1)); done'
start_docker() {
  docker run -d --security-opt apparmor=unconfined --name shop-1 --label com.example.app=shop --network none --cpus 0.2 shop:1 /bin/sh -c "$busy"
}
start_podman() {
  podman run -d --name night --label tier=batch --network none --cpus 0.2 localhost/batch:2 /bin/sh -c "$busy"
}
check "the packages install" install_all
check "docker runs" until_true docker_runs
check "the socket of podman is there" podman_socket
check "podman answers" until_true podman_answers
check "images are made" image
check "a container of docker starts" start_docker
check "a container of podman starts" start_podman
import_image() { docker save -o /tmp/shop.tar shop:1 && ctr images import --snapshotter native /tmp/shop.tar; }
start_containerd() {
  ctr run -d --snapshotter native --label tier=nightly docker.io/library/shop:1 batch-7 \
    /bin/sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; sleep 100000'
}
check "containerd has the image" import_image
check "a container of containerd itself starts" start_containerd

# Who can open a runtime's socket can do everything on the host: without its owner's word the agent may not, and says so.
refused() { journalctl --no-pager -u trimtab-agent | grep 'names of containers cannot be had' | grep -q "$1.*ermission denied"; }
by_number() { trimtab get tasks -o json | jq -e --arg id "$(docker inspect -f '{{.Id}}' shop-1)" '.items[] | select(.kind == "docker" and (.name | contains($id)))'; }
check "an agent that may not ask docker says so" until_true refused docker
check "an agent that may not ask podman says so" until_true refused podman
check "an agent that may not ask containerd says so" until_true refused containerd
check "and shows the container by its number" until_true by_number

printf '[Service]\nSupplementaryGroups=docker\n' > /etc/systemd/system/trimtab-agent.service.d/containers.conf
mkdir -p /etc/trimtab/tasks.d
printf '[[rule]]\nkind = "container"\nlabel = "com.example.app=shop"\nworkload = "shop"\n' > /etc/trimtab/tasks.d/10-own.toml
systemctl daemon-reload
systemctl restart trimtab-agent

one() { trimtab get containers "$1" -o json | tee /dev/stderr | jq -e ".items[0] | $2"; }
check "docker's container has its name, image and label" until_true one shop-1 '.image == "shop:1" and .labels["com.example.app"] == "shop"'
check "podman's has, too" until_true one night '(.image | contains("batch:2")) and .labels.tier == "batch"'
check "containerd's has, too" until_true one batch-7 '.id == "default/batch-7" and .image == "docker.io/library/shop:1" and .labels.tier == "nightly"'
once() { trimtab get containers -o json | jq -e '[.items[].name] | (map(select(. == "shop-1")) | length == 1) and length == 3'; }
check "what containerd runs for docker is named once" until_true once
check "a rule gives it to a workload by its label" until_true one shop-1 '.workload == "shop"'
uses() { one "$1" '.cpuCores > 0.1 and .cpuCores < 0.3 and .memoryBytes > 0'; }
check "docker's uses what its limit allows" until_true uses shop-1
check "podman's uses what its limit allows" until_true uses night
later() { docker run -d --security-opt apparmor=unconfined --name shop-2 --network none shop:1 /bin/sleep 1000; }
check "one more starts" later
check "it is named while the agent runs" until_true one shop-2 '.image == "shop:1"'

# Frozen, a container uses nothing, so that all ledgers can be read at their ease.
docker pause shop-1 > /dev/null
podman pause night > /dev/null
ours_us() { trimtab get containers "$1" -o json | jq '.items[0].cpuTotalUs'; }
kernel_us() { awk '/^usage_usec/ { print $2 }' "$(find /sys/fs/cgroup -type d -name "*$(cat /tmp/id)*.scope" ! -name '*conmon*' | head -1)/cpu.stat"; }
docker_us() { curl -s --unix-socket /run/docker.sock 'http://localhost/containers/shop-1/stats?stream=false&one-shot=true' | jq '.cpu_stats.cpu_usage.total_usage / 1000 | floor'; }
same() {
  ours=$(ours_us "$1")
  theirs=$($2)
  echo "ours: $ours us, theirs: $theirs us" >&2
  test "$ours" = "$theirs"
}
docker inspect -f '{{.Id}}' shop-1 > /tmp/id
check "docker's container used what the kernel says, to the microsecond" until_true same shop-1 kernel_us
check "and what docker stats says" until_true same shop-1 docker_us
last=$(ours_us shop-1)
batch_us() { awk '/^usage_usec/ { print $2 }' /sys/fs/cgroup/default/batch-7/cpu.stat; }
check "containerd's container used what the kernel says" until_true same batch-7 batch_us
podman inspect -f '{{.Id}}' night > /tmp/id
# Its processes are in a cgroup inside of its own, whose sum is meant.
within_us() { d=$(( $(ours_us night) - $(kernel_us) )); echo "difference: $d us" >&2; test "$d" -ge -1 && test "$d" -le 1; }
check "podman's used what the kernel says, both its cgroups together" until_true within_us

# The agent dies: names and totals are there again.
first=$(systemctl show -P MainPID trimtab-agent)
systemctl kill -s KILL trimtab-agent
# What is known of a node that is away stays: the new agent is waited for.
another() { test "$(systemctl show -P MainPID trimtab-agent)" != "$first" && systemctl is-active trimtab-agent && trimtab get nodes -o json | jq -e '.items[0].connected'; }
check "systemd starts the agent again" until_true another
check "after a kill of the agent names are there again" until_true one shop-1 '.image == "shop:1"'
check "and the total is the same" until_true same shop-1 'echo '"$last"

# A container ends: what it used is known.
docker rm -f shop-1 > /dev/null
ended() { trimtab get tasks --ended -o json | tee /tmp/ended | jq -c '.items[] | [.kind, .name, .cpuTotalUs]' >&2; jq -e < /tmp/ended '[.items[] | select(.name == "shop-1")] | length >= 1 and .[0].cpuTotalUs >= '"$last"; }
gone() { ! trimtab get containers shop-1; }
check "a container that ended is gone" until_true gone
check "its total is kept under its name" until_true ended

# One more ends while no agent looks: it has the total that was read last.
systemctl stop trimtab-agent
docker rm -f shop-2 > /dev/null
systemctl start trimtab-agent
unseen() { trimtab get tasks --ended -o json | tee /tmp/ended | jq -c '.items[] | [.kind, .name, .cpuTotalUs]' >&2; jq -e < /tmp/ended '.items[] | select(.name == "shop-2") | .cpuTotalUs > 0'; }
check "one that ended while no agent looked is kept, too" until_true unseen
podman rm -f -t 0 night > /dev/null
end_batch() { ctr tasks kill -s KILL batch-7; sleep 1; ctr tasks delete -f batch-7; ctr containers delete batch-7; }
check "containerd's container ends" end_batch
check "and is gone" until_true eval '! trimtab get containers batch-7'
quiet() { test "$(journalctl --no-pager -u trimtab-agent | grep -c panicked)" = 0; }
check "the agent did not panic" quiet
finish
