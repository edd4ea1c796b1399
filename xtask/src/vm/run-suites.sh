# Runs /suites. What is printed here and on stderr goes to the console; results go to the second serial port alone, each
# suite between two lines of its own.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
# No other program uses this machine: a test may step its clock (tests/src/needs.rs).
export TRACER_LIVE_OWN_MACHINE=1
# The program under test (tests/src/binary.rs).
export TRACER_BINARY=/bin/tracer
exec </dev/null >/dev/console 2>&1
stty -F /dev/ttyS1 raw -echo
exec 3>/dev/ttyS1

suite() {
    name=$1
    shift
    echo "init: $name begins after $(cut -d ' ' -f 1 /proc/uptime) s"
    printf '@ begin %s\n' "$name" >&3
    "$@" >&3
    printf '\n@ end %s %s\n' "$name" $? >&3
    echo "init: $name has ended after $(cut -d ' ' -f 1 /proc/uptime) s"
}
. /suites
echo '@ done' >&3
# Closing it waits until all of it is sent.
exec 3>&-
