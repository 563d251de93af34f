# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What test_mount_helper.py has the booted root do: real mount, umount, findmnt and systemd.

The boot has mounted /srv by its line of /etc/fstab. Each part cleans up after itself.
"""

_SCRIPTS = {
    "fstab-unit": "systemctl show -p ActiveState,Result,What,Type srv.mount",
    "fstab-findmnt": "findmnt -no SOURCE,TARGET,FSTYPE,OPTIONS /srv",
    "fstab-read": "cat /srv/etc/hostname",
    "umount": "umount /srv && ! findmnt /srv",
    "mount-by-target": "mount /srv && findmnt -no SOURCE /srv",
    "mount-again": "mount -a -t cfs && findmnt -no SOURCE /srv && umount /srv",
    "mount-all": "mkdir /run/upper /run/work /run/place && printf '%s\\n'"
                 " '/mnt/repo /srv cfs digest='$digest',nodev 0 0'"
                 " '/mnt/repo /media cfs digest='$digest',verity=off 0 0'"
                 " '/mnt/repo /run/place cfs digest='$digest',upperdir=/run/upper,workdir=/run/work"
                 " 0 0' >/run/fstab && for i in 1 2 3; do mount -a -T /run/fstab || exit; done"
                 "; findmnt -rno TARGET -S composefs:$digest; umount /srv /media /run/place"
                 " && rm -r /run/upper /run/work /run/place /run/fstab",
    "remount": "mount /srv && mount -o remount,noexec,noatime /srv && findmnt -no VFS-OPTIONS /srv"
               " && mount -o remount,exec,strictatime /srv && findmnt -no VFS-OPTIONS /srv"
               " && umount /srv",
    "verify": "findmnt --verify",
    "command-line": "mount -v -t cfs /mnt/repo /srv -o digest=$digest,noexec"
                    " && findmnt -no OPTIONS /srv && umount /srv",
    "generic": "mount -t cfs /mnt/repo /srv"
               " -o defaults,user,group,nofail,_netdev,comment=text,x-foo=bar,X-foo,relatime,silent"
               ",digest=$digest && findmnt -no SOURCE /srv && umount /srv",
    "made-target": "mkdir /run/place && rmdir /run/place; "
                   "mount -t cfs /mnt/repo /run/place -o X-mount.mkdir,digest=$digest"
                   " && findmnt -no SOURCE /run/place && umount /run/place",
    "fake": "mount -f -t cfs /mnt/repo /srv -o digest=$digest && ! findmnt /srv",
    "unknown": "mount -t cfs /mnt/repo /srv -o digest=$digest,nonsense",
    "sloppy": "mount -s -t cfs /mnt/repo /srv -o digest=$digest,nonsense && umount /srv",
    "empty-digest": "mount -t cfs /mnt/repo /srv -o digest=",
    "no-digest": "mount -t cfs /mnt/repo /srv",
    "wrong-digest": "mount -t cfs /mnt/repo /srv -o digest=$(printf %064d 0); code=$?;"
                    " ! findmnt /srv && exit $code",
    "user": "setpriv --reuid=65534 --regid=65534 --clear-groups"
            " mount -t cfs /mnt/repo /srv -o digest=$digest",
    "user-helper": "setpriv --reuid=65534 --regid=65534 --clear-groups"
                   " mount.cfs /mnt/repo /srv -o digest=$digest",
    "unit": "printf '%s\\n' '[Mount]' What=/mnt/repo Where=/media Type=cfs Options=digest=$digest"
            " >/run/systemd/system/media.mount && systemctl daemon-reload"
            " && systemctl start media.mount && findmnt -no SOURCE,FSTYPE /media"
            " && systemctl stop media.mount && ! findmnt /media",
    "reload": "unit=/run/systemd/system/media.mount && sed -i s/^Options=/Options=noexec,/ $unit"
              " && systemctl start media.mount && sed -i s/=noexec/=nosuid/ $unit"
              " && systemctl daemon-reload && systemctl reload media.mount"
              " && findmnt -no VFS-OPTIONS /media && systemctl stop media.mount",
    "automount": "printf '%s\\n' '/mnt/repo /media cfs digest='$digest',x-systemd.automount,noauto"
                 " 0 0' >>/etc/fstab && rm -f /run/systemd/system/media.mount"
                 " && systemctl daemon-reload && systemctl start media.automount"
                 " && cat /media/etc/hostname && findmnt -nt overlay -o SOURCE /media"
                 " && systemctl stop media.automount media.mount",
    "refused-unit": "printf '%s\\n' '[Mount]' What=/mnt/repo Where=/opt Type=cfs"
                    " Options=digest=$(printf %064d 0) >/run/systemd/system/opt.mount"
                    " && systemctl daemon-reload && systemctl start opt.mount; code=$?;"
                    " journalctl -o cat -u opt.mount; systemctl reset-failed opt.mount; exit $code",
}  # fmt: skip


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


PARTS = "".join(f"part {name} {_quoted(script)}\n" for name, script in _SCRIPTS.items())
