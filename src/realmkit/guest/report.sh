#!/bin/sh
# /realmkit/report HEX: obtain a report for a nonce from the kernel and print it as an answer of the attestation
# port's protocol: provider, log, token, data and end lines, or an error line and exit status 1.
reports=/sys/kernel/config/tsm/report
entry=$reports/realmkit.$$
token=/run/realmkit.token.$$

fail() {
	echo "error $*"
	[ ! -d "$entry" ] || rmdir "$entry"
	rm -f "$token"
	exit 1
}

hex=$1
case $hex in
*[!0-9a-fA-F]*) fail "the nonce is not hexadecimal" ;;
esac
[ ${#hex} -ge 64 ] && [ ${#hex} -le 128 ] && [ $((${#hex} % 2)) = 0 ] ||
	fail "the nonce has ${#hex} digits: 64 to 128 are possible, two for each byte"

# Octal escapes are the one way to write any byte that every shell's printf has.
bytes=
while [ -n "$hex" ]; do
	rest=${hex#??}
	byte=$((0x${hex%"$rest"}))
	hex=$rest
	bytes="$bytes\\0$((byte / 64))$((byte / 8 % 8))$((byte % 8))"
done

[ -d $reports ] || fail "the kernel has no $reports (module tsm_report)"
mkdir "$entry" 2>/dev/null || fail "the kernel has no report provider: this is no Realm, or arm-cca-guest is not loaded"
printf %b "$bytes" >"$entry/inblob" || fail "the kernel refuses the nonce"
cat "$entry/outblob" >"$token" || fail "the kernel gives no report"
length=$(wc -c <"$token")
[ "$length" -gt 0 ] || fail "the kernel gives an empty report"
read -r provider <"$entry/provider"
echo "provider $provider"
dmesg | sed -n 's/^\(\[[^]]*\] \)\{0,1\}\(.*RSI version.*\)$/log \2/p' | head -n 1
echo "token" $length
od -A n -v -t x1 "$token" | sed 's/ //g; s/^/data /'
echo end
rmdir "$entry"
rm -f "$token"
