# image-lib.sh: what the make-image-* scripts share. Sourced, not run.
#
# A made thing lives in .cache/images/NAME-DIGEST, where DIGEST is over the scripts that made it: changing a script
# makes a new one, and a finished one is never changed. It is built beside its place and renamed, so that a build
# which was cut short leaves nothing that looks finished.
# shellcheck shell=bash

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WULF_CACHE:-$(dirname "$scripts")/.cache}/images

die() { printf '\n!!! %s: %s\n\n' "${0##*/}" "$*" >&2; exit 1; }
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# place NAME SCRIPT...: the path in the cache of what these scripts make on this release of this distribution.
place() {
	local name=$1 digest
	shift
	digest=$( (cd "$scripts" && cat "$@" image-lib.sh /etc/os-release) | sha256sum)
	printf '%s/%s-%s\n' "$cache" "$name" "${digest:0:12}"
}

# begin PATH: leaves, with exit 0, if PATH is made already; otherwise sets $work to an empty directory on the same
# file system, which is removed when the script ends. One build of a thing runs at a time; others wait for it.
begin() {
	mkdir -p "$cache"
	exec 9>"$1.lock"
	flock 9
	if [ -e "$1" ]; then
		echo "$1"
		exit 0
	fi
	started=$SECONDS
	work=$(mktemp -d "$1.XXXXXX")
	trap 'rm -rf "$work"' EXIT
}

# finish FROM PATH: moves what was made into its place and prints the place, the only line on stdout.
finish() {
	mv "$1" "$2"
	say "made in $((SECONDS - started)) s, $(du -sm "$2" | cut -f1) MB"
	echo "$2"
}
