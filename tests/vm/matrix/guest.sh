# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=sh
# Sourced by each row. There are: /disk with
#   repo/               the store: meta.json, objects/, images/<digest>; $D and $E (SHA-512) are in it
#   composefs/          a store with root images, $WHOLE and $NO_VAR
#   expected/           the files as they must read
#   hostile/            images to adopt; the same bytes as $D's image in image.cfs, another in other.cfs
# and /tampered/<variant>, the same disk after somebody changed it from outside.
# shellcheck disable=SC2034

T=/mnt/target
S=/disk/rows/$ROW
STORE=$S
DIGEST=$D
mkdir -p "$T" /disk/rows

# The path of an object below $S.
object() {
	rest=${1#??}
	echo "$S/objects/${1%"$rest"}/$rest"
}

# A file of the disk into the store by its own digest, which becomes $DIGEST.
adopt() {
	cp "$1" "$S/new" || exit 90
	verity-enable --hash "${2:-sha256}" "$S/new" || exit 90
	DIGEST=$(measure "$S/new")
	DIGEST=${DIGEST#*:}
	mkdir -p "$(dirname "$(object "$DIGEST")")"
	mv "$S/new" "$(object "$DIGEST")"
	ln -s "../$(object "$DIGEST" | sed "s,^$S/,,")" "$S/images/$DIGEST"
}

# A file of the disk in the place of the object $1, without fs-verity.
replace() {
	rm -f "$(object "$1")"
	cp "$2" "$(object "$1")" || exit 90
}

# The object $1 away, and something in its place: remove X; mkfifo "$PLACE".
remove() {
	PLACE=$(object "$1")
	rm -f "$PLACE"
}

# strace that changes what the kernel answers.
inject() {
	what=$1
	shift
	strace -f -qq -o /tmp/trace -e trace="${what%%:*}" -e inject="$what" "$@"
}

# The number, among calls of fsconfig, of the first whose line has the text $1, in a mount that works.
number_of() {
	strace -qq -o /tmp/trace -e trace=fsconfig cfs-mount --object-store "$S" --digest "$DIGEST" \
		--dry-run "$T" || exit 90
	number=$(grep -n "$1" /tmp/trace | head -n 1 | cut -d: -f1)
	[ -n "$number" ] || exit 90
	echo "$number"
}

state() {
	snapshot | grep -E '^(mount|loop) '
}

is_mounted() {
	grep -q " $T " /proc/self/mountinfo
}

# Each expected file: right, the errno of reading it, or WRONG.
files() {
	(cd /disk/expected && find . -type f | sort) | while read -r name; do
		name=${name#./}
		if error=$(readall "$T/$name" 2>&1 >/dev/null); then
			cmp -s "$T/$name" "/disk/expected/$name" && error=right || error=WRONG
		fi
		echo "file $name ${error##*: }"
	done
}

run() {
	cp -al /disk/repo "$S" || exit 90
	prepare
	state >/tmp/before
	(attempt) 2>/tmp/stderr
	echo "code $?"
	if is_mounted; then
		echo mounted
		after
		files
		umount "$T"
	fi
	state >/tmp/after
	diff /tmp/before /tmp/after | sed -n 's/^[<>] /left /p'
	echo stderr
	cat /tmp/stderr
	clean >&2
}
