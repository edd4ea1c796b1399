#!/bin/busybox sh
# The first program of a guest whose first process is systemd: loads the modules, and executes it.
busybox mount -t proc proc /proc
for module in /modules/*.ko; do
    busybox insmod "$module"
done
# pivot_root(2) refuses a root that no mount is below, as an initramfs has it; systemd calls it for each unit that has a
# file system of its own.
busybox mount -o bind / /mnt
cd /mnt
busybox mount -o move . /
exec busybox chroot . /usr/lib/systemd/systemd --unit=suites.service
