#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The last pre-mount hook of an initrd without systemd; dracut's init sources it, once.
#
# The devices are there by now, and no disk is mounted. The root is composed here, before dracut
# comes to its mount hooks: one of them mounts the bare disk and sources files of it. They go, so
# that they run in no case. Where a root is mounted already, dracut looks for no other one.

# shellcheck disable=SC2154 # dracut sets hookdir, root and NEWROOT
rm -f -- "$hookdir"/mount/*.sh
if ! cfs-setup-root --root "${root#block:}" --sysroot "$NEWROOT"; then
    # shellcheck disable=SC1091
    . "$hookdir/emergency/00-cfs-give-up.sh"
    die "cfs-setup-root did not accept the root on this disk"
fi
