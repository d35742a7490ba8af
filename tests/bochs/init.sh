#!/bin/busybox sh
# Process 1 of the emulated machine: loads KVM, runs /program/run, and reports over the serial line in lines that begin
# with a word which this boot alone uses (bochs.marker=WORD on the kernel command line):
#   WORD-START  WORD-OUT (base64 of a .tar.gz of /out follows)  WORD-EXIT:STATUS  WORD-FAIL:REASON
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /out /root
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
stty -F /dev/ttyS0 -opost -echo
mark=$(sed -n 's/.*bochs\.marker=\([^ ]*\).*/\1/p' /proc/cmdline)
fail() {
  printf '\n%s\n' "$mark-FAIL:$1"
  while :; do sleep 60; done
}
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t debugfs debugfs /sys/kernel/debug || fail "no debugfs in this kernel"
chmod 1777 /tmp
ifconfig lo 127.0.0.1 up

# The kernel refines its TSC frequency for a second and only then makes the TSC its clocksource. KVM copies the
# frequency when it is loaded, so it must not be loaded before.
clocksource=/sys/devices/system/clocksource/clocksource0/current_clocksource
tries=0
while [ "$(cat $clocksource)" != tsc ]; do
  tries=$((tries + 1))
  [ $tries -le 100 ] || fail "the clocksource is $(cat $clocksource) after 10 s, not tsc"
  sleep 0.1
done
for module in /modules/*/*.ko; do
  insmod "$module" || fail "insmod $module failed: $(dmesg | tail -n 3 | tr '\n' ';')"
done
[ -c /dev/kvm ] || fail "no /dev/kvm after loading kvm-intel"

export HOME=/root PATH=/bin
cd /out || fail "no /out"
dmesg -n 1 # no kernel message but a panic may fall into the program's output
echo "$mark-START"
/program/run
status=$?
cd / || exit
echo
if [ -n "$(ls -A /out)" ]; then
  echo "$mark-OUT"
  tar -c -C /out . | gzip | base64
fi
echo "$mark-EXIT:$status"
while :; do sleep 60; done
