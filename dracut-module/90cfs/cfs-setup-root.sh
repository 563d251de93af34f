#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The first mount hook of an initrd without systemd; dracut's init sources it.
#
# The disk alone is no root: dracut looks for proc, sys and dev in what a mount hook has mounted,
# unmounts it where they are missing, and deletes the hook. So this one calls those behind it, and
# composes the root over the disk before dracut sees it.

# shellcheck disable=SC1091
command -v ismounted > /dev/null || . /lib/dracut-lib.sh

# Whoever names a digest, or expects one. Whether it may, is decided inside.
cfs_wanted() {
    [ -e /usr/lib/composefs/rootfs.digest ] && return 0
    [ -e /usr/lib/composefs/setup-root.conf ] && return 0
    # shellcheck disable=SC2046 # words
    set -- $(set -f && cat /proc/cmdline)
    for _cfs_word; do
        case "${_cfs_word#\"}" in
            composefs | composefs=* | composefs.digest | composefs.digest=*) return 0 ;;
        esac
    done
    return 1
}

cfs_mount_disk() {
    # shellcheck disable=SC2154 # dracut-lib.sh sets hookdir
    for _cfs_hook in "$hookdir"/mount/*.sh; do
        case "$_cfs_hook" in
            */00-cfs-setup-root.sh) continue ;;
        esac
        # shellcheck disable=SC1090
        [ -f "$_cfs_hook" ] && . "$_cfs_hook"
        ismounted "$NEWROOT" && return 0
    done
    return 1
}

# Where the disk is not there yet, dracut calls all hooks again.
if cfs_wanted && cfs_mount_disk; then
    if ! cfs-setup-root --sysroot "$NEWROOT"; then
        umount "$NEWROOT"
        die "cfs-setup-root did not accept the root on this disk"
    fi
fi
