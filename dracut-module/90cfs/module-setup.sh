#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# A dracut module: the initrd composes and verifies the root before switching to it.
# For dracut 059 and later; dracut sources this file and calls the functions.

# shellcheck disable=SC2154 # dracut sets these: dracutsysrootdir, hostonly, initdir, moddir,
# systemdsystemunitdir, systemdutildir

_cfs_init=/usr/lib/composefs/cfs-init
_cfs_toml=/usr/lib/composefs/setup-root-conf.toml
_cfs_conf=/usr/lib/composefs/setup-root.conf
_cfs_digest=/usr/lib/composefs/rootfs.digest
_cfs_record=/run/cfs/root.json
_cfs_nvpcr=/usr/lib/composefs/composefs.nvpcr

check() {
    [[ -x "${dracutsysrootdir-}$_cfs_init" ]] || return 1
    # An initrd with this module boots a sealed root or nothing: so it is in by itself only where
    # there is a digest, or where this machine was booted so. 255: in where somebody asks for it.
    # A link that leads nowhere counts: install() says that it does.
    local file="${dracutsysrootdir-}$_cfs_digest"
    [[ -e $file || -L $file ]] && return 0
    [[ ! ${dracutsysrootdir-} && -e $_cfs_record ]] && return 0
    file="${dracutsysrootdir-}$_cfs_toml"
    if [[ -e $file || -L $file ]]; then
        dinfo "cfs: not in this initrd by itself: there is $_cfs_toml, but no $_cfs_digest," \
            "and this machine was not booted so. To have it in: dracut --add cfs"
    fi
    return 255
}

# rootfs-block finds out what root= means, and waits for it. With systemd, sysroot.mount mounts it;
# without, cfs-setup-root does, and the hook that rootfs-block has for that never runs.
depends() {
    echo "base rootfs-block"
}

installkernel() {
    # Not what this machine uses now: what the root will need. What is built in is left out.
    hostonly='' instmods erofs overlay loop
    # fs-verity asks for them by algorithm; 6.16 and later have new names. Then the processors' own.
    hostonly='' instmods sha256 sha512 sha256_generic sha512_generic
    hostonly='' instmods sha256_ssse3 sha512_ssse3 sha2_ce sha256_arm64 sha512_ce sha512_arm64
    # The UKI's section is read from the ESP, to be compared.
    hostonly='' instmods efivarfs vfat nls_cp437 nls_ascii
}

install() {
    inst_simple "$_cfs_init" /usr/bin/cfs-setup-root
    ln -sfn cfs-setup-root "$initdir/usr/bin/cfs-mount"
    mkdir -p "$initdir/usr/lib/composefs"
    _cfs_warn_of_labels
    _cfs_warn_of_fstab
    _cfs_install_configuration || exit 1
    _cfs_install_digest || exit 1
    # Whoever has the disk makes a partition that looks like a hibernated machine; without systemd
    # dracut resumes from any.
    mkdir -p "$initdir/etc/cmdline.d"
    echo noresume > "$initdir/etc/cmdline.d/90-cfs.conf"

    if dracut_module_included "systemd"; then
        inst_simple "$systemdsystemunitdir/cfs-setup-root.service"
        mkdir -p "$initdir$systemdsystemunitdir/initrd-root-fs.target.requires"
        ln -sfn ../cfs-setup-root.service \
            "$initdir$systemdsystemunitdir/initrd-root-fs.target.requires/cfs-setup-root.service"
        # Whatever goes wrong: no shell, unless the configuration says so.
        inst_simple "$systemdsystemunitdir/cfs-failure.service"
        local _unit
        for _unit in emergency rescue dracut-emergency; do
            inst_simple "$moddir/cfs-failure.conf" \
                "$systemdsystemunitdir/$_unit.service.d/cfs-failure.conf"
        done
        _cfs_mask
        _cfs_install_nvpcr
        # For rd.systemd.wants=systemd-growfs@sysroot.service: it grows before the root is composed.
        inst_multiple -o "$systemdutildir/systemd-growfs" \
            "$systemdsystemunitdir/systemd-growfs@.service"
    else
        _cfs_has_switch_root || exit 1
        inst_hook pre-mount 99 "$moddir/cfs-setup-root.sh"
        inst_hook emergency 00 "$moddir/cfs-give-up.sh"
    fi
}

# What would work on the bare disk, or compose a root itself: see cfs-setup-root.service.
_cfs_mask() {
    local _unit
    mkdir -p "$initdir/etc/systemd/system"
    for _unit in systemd-repart bootc-root-setup composefs-setup-root ostree-prepare-root; do
        ln -sfn /dev/null "$initdir/etc/systemd/system/$_unit.service"
    done
}

# Labels are attributes in the image: none can be added to it, and an enforcing policy stops most of
# what has none. Whether this tree becomes the image is not known here: so it is a warning.
_cfs_warn_of_labels() {
    local _root="${dracutsysrootdir-}"
    grep -qs '^SELINUX=enforcing' "$_root/etc/selinux/config" || return 0
    # Where SELinux is not on, or this stat knows nothing of it, it has other words.
    LC_ALL=C stat -c %C "$_root/usr" 2>&1 | grep -q 'No data available' || return 0
    dwarn "cfs: $_root/etc/selinux/config says enforcing, but $_root/usr has no label: label the" \
        "tree before its image is made, or it will not come up: chroot TREE setfiles -m -F" \
        "/etc/selinux/POLICY/contexts/files/file_contexts /"
}

# mount.cfs knows how to remount a composed root; nobody else does.
_cfs_warn_of_fstab() {
    local _fstab="${dracutsysrootdir-}/etc/fstab"
    grep -Eqs '^[[:space:]]*[^#[:space:]]+[[:space:]]+/[[:space:]]' "$_fstab" || return 0
    grep -Eqs '^[[:space:]]*[^#[:space:]]+[[:space:]]+/[[:space:]]+cfs([[:space:]]|$)' "$_fstab" &&
        return 0
    dwarn "cfs: $_fstab has a line for /: where it comes into the image, systemd-remount-fs.service" \
        "fails at each boot. Take it out: the initrd mounts the root"
}

# `exit`, not `return`: dracut only complains about a module that fails, and writes the initrd.
_cfs_install_configuration() {
    local _toml="${dracutsysrootdir-}$_cfs_toml"
    [[ -e $_toml || -L $_toml ]] || return 0
    if ! command -v cfs-init-config > /dev/null; then
        dfatal "cfs: $_toml: cfs-init-config is needed to check and compile it, and is not there"
        return 1
    fi
    if ! cfs-init-config compile "$_toml" -o "$initdir$_cfs_conf"; then
        dfatal "cfs: $_toml is not usable, see above: no initrd is made"
        return 1
    fi
}

# systemd's NvPCR, where the configuration names one. dracut leaves out the socket that is asked, and
# brings the program that makes the NvPCR only where tpm2-tools are.
_cfs_install_nvpcr() {
    local _name _file _from=
    _name=$(sed -n 's/^measure-nvpcr=//p' "$initdir$_cfs_conf" 2> /dev/null)
    [[ $_name ]] || return 0
    for _file in "/etc/nvpcr/$_name.nvpcr" "/usr/lib/nvpcr/$_name.nvpcr" "$_cfs_nvpcr"; do
        [[ ! $_from && -e ${dracutsysrootdir-}$_file ]] || continue
        [[ $_file != "$_cfs_nvpcr" || $_name == composefs ]] && _from=$_file
    done
    if [[ $_from ]]; then
        inst_simple "$_from" "/usr/lib/nvpcr/$_name.nvpcr"
    else
        dwarn "cfs: [measure] nvpcr: there is no $_name.nvpcr in /etc/nvpcr or /usr/lib/nvpcr: each" \
            "boot will warn that the root is not measured into it"
    fi
    inst_multiple -o "$systemdutildir/systemd-pcrextend" "$systemdutildir/systemd-tpm2-setup" \
        "$systemdsystemunitdir"/{systemd-pcrextend.socket,systemd-pcrextend@.service} \
        "$systemdsystemunitdir"/{systemd-tpm2-setup-early.service,tpm2.target} \
        "$systemdsystemunitdir"/systemd-{pcrphase-initrd,pcrosseparator,pcrnvdone}.service \
        "$systemdsystemunitdir/sockets.target.wants/systemd-pcrextend.socket" \
        "$systemdsystemunitdir/initrd.target.wants/systemd-pcrphase-initrd.service" \
        "$systemdsystemunitdir"/sysinit.target.wants/systemd-{pcrosseparator,pcrnvdone}.service \
        "$systemdsystemunitdir/sysinit.target.wants/systemd-tpm2-setup-early.service"
    # What they open by name when they need it.
    inst_libdir_file "libtss2-esys.so.*" "libtss2-mu.so.*" "libtss2-rc.so.*" \
        "libtss2-tcti-device.so.*" "libcrypto.so.*"
    for _file in "$systemdutildir/systemd-pcrextend" \
        "$systemdsystemunitdir/systemd-pcrextend.socket"; do
        [[ -e $initdir$_file ]] || dwarn "cfs: [measure] nvpcr: there is no $_file (Debian:" \
            "systemd-tpm): each boot will warn that the root is not measured into the NvPCR"
    done
}

# dracut's own module complains that there is none, and leaves an initrd that composes the root and
# then cannot start it.
_cfs_has_switch_root() {
    find_binary switch_root > /dev/null && return 0
    dracut_module_included "busybox" && return 0
    dfatal "cfs: switch_root is not on this machine, and this initrd has no systemd: it could not" \
        "start the root. Install switch_root (Debian 14: util-linux-extra). No initrd is made"
    return 1
}

_cfs_install_digest() {
    local _file="${dracutsysrootdir-}$_cfs_digest" _first=
    [[ -e $_file || -L $_file ]] || return 0
    read -r _first < "$_file" || :
    if [[ $_first != cfsdig1 ]]; then
        dfatal "cfs: $_file: its first line is '$_first', expected 'cfsdig1' (cfs-uki payload)"
        return 1
    fi
    inst_simple "$_cfs_digest"
}
