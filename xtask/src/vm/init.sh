#!/bin/busybox sh
# The first process of a guest: makes it a machine, runs /suites, and turns it off. What is printed here and on
# stderr goes to the console; results go to the second serial port alone, each suite between two lines of its own.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
# No other program uses this machine: a test may step its clock (tests/src/needs.rs).
export TRACER_LIVE_OWN_MACHINE=1
# The program under test (tests/src/binary.rs).
export TRACER_BINARY=/bin/tracer
busybox mount -t proc proc /proc
busybox --install -s
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec </dev/null >/dev/console 2>&1
stty -F /dev/ttyS1 raw -echo
exec 3>/dev/ttyS1
for module in /modules/*.ko; do
    case $module in
    *-brd.ko) insmod "$module" rd_nr=1 rd_size=65536 ;;
    *) insmod "$module" ;;
    esac
done
# Of what is in memory only, old kernels do not report which process changes a file. Smaller inodes keep whole seconds only.
mke2fs -I 256 /dev/ram0 >/dev/null
mkdir /ram
mount -t ext4 /dev/ram0 /ram
export TMPDIR=/ram
hostname guest
ip link set dev lo up

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
poweroff -f
