#!/bin/sh
# Runs the payload; what it prints goes to the host over its own port, its exit status is the last line.
exec > /dev/suite 2>&1
echo "guest: $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), up $(cut -d' ' -f1 /proc/uptime) s"
/bin/sh /payload/run.sh
echo "guest: exit $?"
systemctl poweroff --force --force
