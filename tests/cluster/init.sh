#!/bin/busybox sh
# Process 1 of a node: turns the machine's own file system into the node's, starts the agent in it, and reaps orphans.
# Arguments, from the kernel command line after `--`: NAME PEER_ADDRESS/BITS (or `-` without a second NIC) [INIT]. With
# INIT, that program of the node's file system becomes process 1 (systemd), once everything is mounted and loaded.
b=/bin/busybox
name=$1
peer_address=$2
init=${3:-}
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
fail() {
  echo "tsc-node: $1"
  $b poweroff -f
}
insert() {
  for module in $1; do
    $b insmod "$module" || fail "insmod $module failed"
  done
}
insert "/modules/0/*.ko"

# cache=loose, because overlayfs takes no lower layer that must be revalidated: a file that changes on the machine after
# the node has read it may be seen stale. The exchange directory has no cache for that reason.
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose host /host || fail "no 9p of /"
$b mount -t tmpfs tmpfs /upper
$b mkdir /upper/data /upper/work
$b mount -t overlay -o lowerdir=/host,upperdir=/upper/data,workdir=/upper/work overlay /root ||
  fail "no overlay over 9p"
$b mkdir -p /root/proc /root/sys /root/dev /root/run /root/exchange
$b mount -t 9p -o trans=virtio,version=9p2000.L,rw,msize=512000,cache=none exchange /root/exchange ||
  fail "no 9p of the exchange directory"
# What the machine keeps in /run (sockets, pid files) means nothing in here.
$b mount -t tmpfs -o mode=0755 tmpfs /root/run
$b mkfifo /root/run/.tsc-node-modules

$b ip link set lo up
$b ip addr add 10.0.2.15/24 dev eth0
$b ip link set eth0 up
if [ "$peer_address" != - ]; then
  $b ip addr add "$peer_address" dev eth1
  $b ip link set eth1 up
fi
$b hostname "$name"
echo 127.0.0.1 localhost "$name" >/root/etc/hosts

$b mount -t devtmpfs dev /root/dev
$b mount --move /sys /root/sys
$b mount --move /proc /root/proc
$b mkdir -p /root/dev/shm /root/dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /root/dev/shm
$b mount -t devpts devpts /root/dev/pts
$b mount -t debugfs debugfs /root/sys/kernel/debug || fail "no debugfs"
if [ -n "$init" ]; then
  insert "/modules/1/*.ko"
  $b rm /root/run/.tsc-node-modules
  echo loaded >/root/run/.tsc-node-modules # a file, which does not wait for who reads it
  exec $b switch_root /root "$init"
fi
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
$b chroot /root /usr/bin/python3 -I -S "/exchange/.agent.py" &
agent=$!
# KVM takes a while to load under emulation, and so does Python: side by side. The agent reads this pipe before it says
# that the node is ready.
insert "/modules/1/*.ko"
echo loaded >/root/run/.tsc-node-modules
wait $agent
echo "tsc-node: the agent ended with $?"
echo o >/root/proc/sysrq-trigger
while :; do $b sleep 60; done # process 1 must not end before the power does
