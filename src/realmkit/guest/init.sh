#!/bin/sh
# /init of a Linux guest of realmkit: mounts, modules, attestation, /script, then a shell or power off.
# Everything it needs is in /realmkit. Plain POSIX shell: it runs under busybox, dash and bash.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM="${TERM:-vt100}"
set -f

say() { echo "realmkit: $*"; }

power_off() {
	sync
	# Without systemd or busybox there is no such command.
	if command -v poweroff >/dev/null; then poweroff -f; fi
	echo o >/proc/sysrq-trigger
}

# Without /proc a busybox shell cannot find its own applets.
if [ -x /bin/busybox ]; then /bin/busybox mount -t proc proc /proc; else mount -t proc proc /proc; fi
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null

shell= poweroff=
read -r parameters </proc/cmdline
for word in $parameters; do
	case $word in
	realmkit.shell | realmkit.shell=1) shell=1 ;;
	realmkit.poweroff | realmkit.poweroff=1) poweroff=1 ;;
	esac
done

read -r release </realmkit/release
read -r running </proc/sys/kernel/osrelease
[ -z "$release" ] || [ "$release" = "$running" ] ||
	say "the modules are for kernel $release, this is $running: they will not load"
while read -r module; do
	error=$(insmod "/realmkit/modules/$module.ko" 2>&1) || say "module $module does not load: ${error##*: }"
done </realmkit/order
[ ! -d /sys/kernel/config ] || mount -t configfs configfs /sys/kernel/config

# The attestation port, or nothing. Ports appear a moment after their device.
port=
find_port() {
	set +f
	for name in /sys/class/virtio-ports/*/name; do
		[ -r "$name" ] && read -r text <"$name" && [ "$text" = org.realmkit.attestation ] || continue
		name=${name%/name}
		port=/dev/${name##*/}
	done
	set -f
}
set +f
for device in /sys/bus/virtio/drivers/virtio_console/virtio*; do
	[ -e "$device" ] || continue
	for try in 0 1 2 3 4 5 6 7 8 9; do
		find_port
		[ -z "$port" ] || break 2
		sleep 0.1
	done
done
set -f

# A console on virtio, whose driver is a module, was not there yet when the kernel wanted to open it for us.
# Without "command" the shell would end if it is not there now either.
command exec <>/dev/console >&0 2>&1

# What the Host says is one line, and nothing but a nonce is taken from it.
answer() {
	case $1 in
	"challenge "*)
		/realmkit/report "${1#challenge }" && say "the report went out on $port" >/dev/console
		;;
	poweroff)
		say "the Host asks to power off" >/dev/console
		power_off
		;;
	"") ;;
	*) echo "error the line is not in the protocol" ;;
	esac
}

# A failing exec would end the shell, were it not a command of command.
if [ -n "$port" ] && command exec 3<>"$port"; then
	# A Host that keeps silent, or never ends its line, must not keep the guest waiting where the shell can help it.
	bounds=
	if (echo x | read -r -t 1 -n 1 line) 2>/dev/null; then bounds="-t 10 -n 160"; fi
	for try in 0 1 2 3 4 5 6 7 8 9; do
		line=
		read -r $bounds line <&3 && break
		[ -z "$line" ] || break
		sleep 0.1
	done
	answer "$line" >&3
	while read -r line; do answer "$line" >&3; done <&3 &
	exec 3<&-
fi

if [ -e /script ]; then
	/script
	say "script exit status $?"
else
	shell=1
fi

if [ -n "$shell" ] && [ -z "$poweroff" ]; then
	say "type exit to power off"
	cd /root || cd /
	if command -v cttyhack >/dev/null; then
		setsid cttyhack sh
	else
		# /dev/console cannot be a controlling terminal; the device behind it can.
		read -r consoles </sys/class/tty/console/active
		terminal=/dev/${consoles##* }
		[ -c "$terminal" ] || terminal=/dev/console
		setsid -c -w sh <"$terminal" >"$terminal" 2>&1
	fi
fi
power_off
while :; do sleep 1000; done # init must not end: that is a kernel panic
