#!/bin/busybox sh
# First process of a guest: mounts the read-only root with a writable layer in memory, and the payload, then starts systemd.
# Parameters: vm.ip=ADDRESS/LENGTH vm.host=NAME
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755 run /run
for word in $(cat /proc/cmdline); do
  case $word in
    vm.ip=*) address=${word#vm.ip=} ;;
    vm.host=*) host=${word#vm.host=} ;;
  esac
done
for module in virtio_pci virtio_console virtio_blk virtio_net virtio-rng erofs overlay; do modprobe -q $module; done
await() {
  i=0
  while [ ! -b "$1" ] && [ $i -lt 1000 ]; do sleep 0.01; i=$((i + 1)); done
  [ -b "$1" ] || { echo "vm: no disk $1"; poweroff -f; }
}
await /dev/vda
mkdir -p /run/lower /run/layer
mount -t erofs -o ro /dev/vda /run/lower || { echo "vm: cannot mount the root"; poweroff -f; }
mount -t tmpfs -o size=75% layer /run/layer
mkdir -p /run/layer/upper /run/layer/work
mount -t overlay -o lowerdir=/run/lower,upperdir=/run/layer/upper,workdir=/run/layer/work root /newroot
await /dev/vdb
mkdir -p /newroot/payload
mount -t erofs -o ro /dev/vdb /newroot/payload || { echo "vm: cannot mount the payload"; poweroff -f; }
ip link set lo up
[ -n "$address" ] && ip addr add "$address" dev eth0 && ip link set eth0 up
[ -n "$host" ] && echo "$host" > /newroot/etc/hostname
mkdir -p /newroot/usr/lib/modules
cp -r /lib/modules/* /newroot/usr/lib/modules/
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = trimtab.suite ] && ln -sf "${port##*/}" /dev/suite
done
mount -o move /run /newroot/run
mount -o move /dev /newroot/dev
umount /sys
umount /proc
exec switch_root /newroot /sbin/init
