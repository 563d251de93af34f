#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# packaging/install.sh DESTDIR: puts what is no Python where mount(8), systemd, the initrd
# generators, man and the shells look for it. build/cfs-init is built before, pyinit by pip.
# UNITDIR, SBINDIR: where a distribution has them elsewhere.
set -eu

destdir=$1
unitdir=${UNITDIR-/usr/lib/systemd/system}
sbindir=${SBINDIR-/usr/sbin}
cd "$(dirname "$0")/.."

put() { # MODE TARGET-DIRECTORY FILE...
	mode=$1
	target=$destdir$2
	shift 2
	mkdir -p "$target"
	for file; do
		install -m "$mode" "$file" "$target/"
	done
}

put_as() { # MODE TARGET FILE
	mkdir -p "$destdir${2%/*}"
	install -m "$1" "$3" "$destdir$2"
}

put 755 /usr/lib/composefs build/cfs-init
# Not where systemd takes it for every initrd: the dracut module decides for which.
put 644 /usr/lib/composefs dracut-module/composefs.nvpcr
mkdir -p "$destdir/usr/bin" "$destdir$sbindir"
for name in cfs-mount cfs-setup-root; do
	ln -sfn ../lib/composefs/cfs-init "$destdir/usr/bin/$name"
done
# mount(8) looks for its helpers in /sbin.
ln -sfn ../lib/composefs/cfs-init "$destdir$sbindir/mount.cfs"

put 644 "$unitdir" dracut-module/*.service dracut-module/*.socket
# Enabled: it has a condition of its own. The others are for initrds, or templates, or let users in.
mkdir -p "$destdir$unitdir/soft-reboot.target.wants"
ln -sfn ../cfs-soft-reboot.service "$destdir$unitdir/soft-reboot.target.wants/"
put 755 /usr/lib/dracut/modules.d/90cfs dracut-module/90cfs/*.sh
put 644 /usr/lib/dracut/modules.d/90cfs dracut-module/90cfs/*.conf
put_as 755 /usr/share/initramfs-tools/hooks/cfs dracut-module/initramfs-tools/hook
for name in init-top panic; do
	put_as 755 "/usr/share/initramfs-tools/scripts/$name/cfs" "dracut-module/initramfs-tools/$name"
done
# Not where initramfs-tools takes it for every initrd: the hook decides for which.
put 644 /usr/share/cfs/initramfs-tools dracut-module/initramfs-tools/boot-script
put 644 /usr/share/cfs/mkosi dracut-module/mkosi/mkosi.conf
put 755 /usr/share/cfs/mkosi dracut-module/mkosi/mkosi.finalize
put 755 /usr/bin dracut-module/mkosi/cfs-seal-disk
put 644 /usr/share/cfs/mkosi/mkosi.repart dracut-module/mkosi/mkosi.repart/*.conf

# Loaded by who needs it: docs/howto/selinux.md.
put 644 /usr/share/cfs/selinux selinux/cfs.cil

put 644 /usr/share/cfs pyinit/host/config/setup-root-conf.toml pyinit/host/config/setup-root-conf.schema.json

for section in 5 8; do
	put 644 "/usr/share/man/man$section" man/*."$section"
done
put_as 644 /usr/share/bash-completion/completions/cfs-mount completions/cfs.bash
for name in mount.cfs cfs-setup-root cfs-uki cfs-store cfs-init-config cfs-seal-disk; do
	ln -sfn cfs-mount "$destdir/usr/share/bash-completion/completions/$name"
done
put_as 644 /usr/share/zsh/site-functions/_cfs completions/_cfs
