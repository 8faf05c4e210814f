# For scripts of checks: each `check` is a test, `finish` says what came of them.
passed=0
failed=0
check() {
  name=$1
  shift
  read -r check_began check_rest < /proc/uptime
  if "$@" > /tmp/check.log 2>&1; then
    read -r check_ended check_rest < /proc/uptime
    echo "test $name ... ok ($((${check_ended%.*} - ${check_began%.*})) s)"
    passed=$((passed + 1))
  else
    echo "test $name ... FAILED"
    sed 's/^/    /' /tmp/check.log | tail -110
    failed=$((failed + 1))
  fi
}
# Waits up to two minutes for a command to succeed.
until_true() {
  deadline=$(($(date +%s) + 120))
  while :; do
    "$@" && return 0
    [ "$(date +%s)" -lt $deadline ] || break
    sleep 0.5
  done > /tmp/tries.log 2>&1
  tail -20 /tmp/tries.log
  echo "not within two minutes: $*"
  journalctl --no-pager -n 60 -o cat -p 6 | tail -60
  return 1
}
finish() {
  echo "test result: $([ $failed = 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored"
  [ $failed = 0 ] || status=1
}
export DEBIAN_FRONTEND=noninteractive
