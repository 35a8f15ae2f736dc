#!/bin/sh
# The Docker host: process 1 of namespaces of its own (mounts, network, processes). What it mounts ends with it.
# init.sh ROOT CGROUP FOLDER...: its file system, the control group of its containers, folders that it shares with us.
set -eu
root=$1 cgroup=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
for folder in "$@"; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
done
rm -f "$root/etc/resolv.conf"
echo nameserver 10.0.2.3 > "$root/etc/resolv.conf"
ip link set lo up
until ip route | grep -q default; do sleep 0.05; done
echo 1 > /proc/sys/net/ipv4/ip_forward
# Not chroot alone: `docker exec` enters the root of the mount namespace, which would still be the machine's.
cd "$root"
mkdir -p before
pivot_root . before
exec chroot . sh -euc 'umount -l /before && rmdir /before && exec "$@"' sh \
    docker-init -g -- dockerd --cgroup-parent="/$cgroup" --exec-opt native.cgroupdriver=cgroupfs --storage-driver=overlay2
