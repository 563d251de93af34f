#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Makes bootc.tar.gz anew: two repositories by cfsctl (cargo install composefs-ctl), made on a file
# system without fs-verity; the tests seal the objects. $1: cfsctl.
set -eu
cfsctl=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

root=$work/root
mkdir -p "$root/usr/bin" "$root/etc" "$root/var/lib" "$root/usr/lib"
for name in sysroot dev proc run sys boot; do
	mkdir "$root/$name"
done
{
	echo '#!/bin/sh'
	for _ in $(seq 200); do
		echo '# padding'
	done
} >"$root/usr/bin/program"
chmod 755 "$root/usr/bin/program"
seq 100 >"$root/usr/lib/data"
echo image >"$root/etc/hostname"
echo shipped >"$root/var/lib/shipped"
find "$root" -exec touch -h -d @1700000000 {} +

make_repository() {
	"$cfsctl" --repo "$work/$1" init --insecure --algorithm "$2"
	"$cfsctl" --repo "$work/$1" --insecure create-image "$root"
}
make_repository composefs fsverity-sha512-12
make_repository composefs-sha256 fsverity-sha256-12
tar -C "$work" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@1700000000 \
	-czf "$here/bootc.tar.gz" composefs composefs-sha256
