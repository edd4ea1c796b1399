#!/bin/busybox sh
# The first process of a guest: makes it a machine, runs the suites, and turns it off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox mount -t proc proc /proc
busybox --install -s
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
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
. /run-suites.sh
poweroff -f
