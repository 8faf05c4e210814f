# For suites of several machines: the first asks the host, on its own port, for what no guest can do. Follows checks.sh.
port=$(dirname "$(grep -lx trimtab.host /sys/class/virtio-ports/*/name)")
exec 3<> "/dev/${port##*/}"
# on NAME COMMAND...: runs a line of shell in another machine.
on() {
  node=$1
  shift
  echo "on $node $(echo "$*" | base64 -w0)" >&3
  answer
}
# link NAME on|off: connects the machine's network device, or cuts it without a word.
link() {
  echo "link $1 $2" >&3
  answer
}
answer() {
  read -r code output <&3
  echo "$output" | base64 -d
  return "$code"
}
# What the others do: carry out what they are asked for, until the machine ends.
serve() {
  while read -r asked <&3; do
    echo "$asked" | base64 -d > /tmp/asked
    sh /tmp/asked > /tmp/answer 2>&1 < /dev/null 3>&-
    echo "$? $(base64 -w0 /tmp/answer)" >&3
  done
}
