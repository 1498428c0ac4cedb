#!/bin/sh
# Runs what overlays have put into /warewulf/wwinit.d, in the order of the names, before the root is in its place. In an
# initramfs of dracut the overlays are below PREFIX.

failed=0
for script in "${PREFIX}"/warewulf/wwinit.d/*; do
	[ -x "$script" ] || continue
	echo "wwinit: ${script##*/}"
	"$script" || { echo "wwinit: ${script##*/} failed"; failed=1; }
done
exit $failed
