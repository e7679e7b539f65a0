#!/bin/sh
# The user-space self-test of a Linux guest, as /script. One line for each part: "selftest: NAME ok" or "... FAILED";
# the exit status is the number of failures. It needs nothing but busybox and /realmkit/selftest.
# /dev/vda, if there is one of at least 2 MiB, is read, and unless it is read-only its second MiB is overwritten with
# the first, so that whoever owns the file can compare the halves; digests are printed.
failures=0

part() { # NAME STATUS
	if [ "$2" = 0 ]; then
		echo "selftest: $1 ok"
	else
		echo "selftest: $1 FAILED"
		failures=$((failures + 1))
	fi
}

/realmkit/selftest
failures=$((failures + $?))

# Files and pipelines through the shell: a digest that is the same by two ways.
seq 20000 >/tmp/numbers
one=$(sha256sum </tmp/numbers)
two=$(seq 20000 | sort -rn | sort -n | sha256sum)
[ "$one" = "$two" ] && [ "$(wc -l </tmp/numbers)" -eq 20000 ]
part pipeline $?
rm /tmp/numbers

date=$(date +%s)
sleep 0.2
[ "$(date +%s)" -ge "$date" ]
part clock $?

head -c 64 /dev/urandom | wc -c | grep -qx 64
part random $?

# CPUs but the first leave and come back.
cpus=0 bad=0
for cpu in /sys/devices/system/cpu/cpu[1-9]*; do
	[ -e "$cpu/online" ] || continue
	cpus=$((cpus + 1))
	echo 0 >"$cpu/online" && grep -qx 0 "$cpu/online" || bad=1
	echo 1 >"$cpu/online" && grep -qx 1 "$cpu/online" || bad=1
done
[ $cpus = 0 ] || part hotplug $bad

mebibyte() { # WHICH: the digest of one MiB of the disk, from the disk
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vda bs=65536 skip=$(($1 * 16)) count=16 2>/dev/null | sha256sum | cut -d ' ' -f 1
}

if [ -b /dev/vda ] && read -r sectors </sys/block/vda/size && [ "$sectors" -ge 4096 ]; then
	first=$(mebibyte 0)
	[ -n "$first" ] && [ "$(mebibyte 0)" = "$first" ]
	part disk-read $?
	echo "selftest: disk first MiB sha256 $first"
	read -r protected </sys/block/vda/ro
	if [ "$protected" = 1 ]; then
		! dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync 2>/dev/null
		part disk-protected $?
	else
		dd if=/dev/vda of=/dev/vda bs=65536 count=16 seek=16 conv=fsync,notrunc 2>/dev/null
		part disk-write $?
		[ "$(mebibyte 1)" = "$first" ]
		part disk-verify $?
	fi
fi
echo "selftest: $failures failures"
exit $failures
