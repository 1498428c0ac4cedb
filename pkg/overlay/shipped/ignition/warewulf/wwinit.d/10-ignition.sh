#!/bin/sh
# Partitions and formats the node's disks with Ignition, once in a boot: in dracut's initramfs if Ignition is there, else
# when systemd runs. Ignition needs systemd, because it waits for what udev says.

config=$PREFIX/warewulf/ignition.json
mark=$PREFIX/warewulf/run/ignition

[ -s "$config" ] && [ ! -e "$mark" ] && [ -d /run/systemd/system ] || exit 0

for ignition in /usr/bin/ignition /usr/lib/dracut/modules.d/*ignition/ignition /usr/libexec/ignition none; do
	[ ! -x "$ignition" ] || break
done
if [ "$ignition" = none ]; then
	echo "wwinit: Ignition is not there: install ignition and gdisk into the image"
	[ -n "$PREFIX" ] # the image may have it
	exit
fi

"$ignition" --platform=metal --stage=disks --config-cache="$config" --log-to-stdout || exit
mkdir -p "${mark%/*}"
: >"$mark"
udevadm settle
