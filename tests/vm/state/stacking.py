# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One more overlay on the root, /usr, /etc and /var, in each mode: what the record says of it, and
what the kernel does. A level is free everywhere, but above an overlay on the disk: there it is on
the newest kernel only (that of the btrfs), which takes the root's layers for it.
"""

from collections.abc import Iterator
from typing import Any

from tests.vm.kernels import PLAYED

from .case import Setup, case

# As systemd-sysext does (two lower directories), and as nspawn --volatile and containers do.
_TRY = """
tried() {
    free=
    mkdir -p /tmp/more/u /tmp/more/w /tmp/more/x /tmp/at
    mount -t tmpfs more /tmp/more && mkdir /tmp/more/u /tmp/more/w /tmp/more/x || exit 90
    for place in / /usr /etc /var; do
        ways=
        for upper in lowerdir=/tmp/more/x:$S$place \\
            lowerdir=$S$place,upperdir=/tmp/more/u,workdir=/tmp/more/w
        do
            if mount -t overlay more -o $upper /tmp/at 2>/dev/null; then
                umount /tmp/at || exit 91
                ways=${ways}y
            fi
        done
        case $ways in yy) free="$free, \\"$place\\"" ;; y) exit 92 ;; esac
    done
    umount /tmp/more
    record | grep -o '"stackable": .[^]]*.'
    echo "$FS: ${free#, }"
}
"""
_ALL = '"/", "/usr", "/etc", "/var"'
MODES: dict[str, dict[str, Any]] = {
    "stack-none": {"etc": "none", "var": "none"},
    "stack-memory": {"etc": "transient", "var": "transient"},
    "stack-bind": {"etc": "bind", "var": "bind"},
    "stack-etc": {"etc": "overlay", "var": "transient-disk"},
    "stack-both": {"etc": "overlay", "var": "overlay"},
    "stack-root": {"root": "transient", "etc": "none", "var": "none"},
    "stack-root-etc": {"root": "transient", "etc": "transient", "var": "overlay"},
}


def _free(values: dict[str, Any]) -> str:
    """The pattern of what both the record and the kernel say."""
    taken = [f'"/{name}"' for name, mode in values.items() if mode == "overlay"]
    left = ", ".join(place for place in _ALL.split(", ") if place not in taken)
    said = r'"stackable": \[{0}\]\n{1}: {0}\n'
    stable = said.format(_ALL if PLAYED else left, "ext4")
    return rf"\A({stable}|{said.format(_ALL, 'btrfs')})\Z"


def stacking() -> Iterator[Setup]:
    for name, values in MODES.items():
        yield case(name, _TRY + "up && tried", stdout=_free(values), **values)
    # State that was written above the composed directory, as an older kernel has it, and then by
    # ours, and so on; and below another image. What is an image's file keeps its content.
    yield case(
        "stack-either-way",
        """
        E=$S/sysroot/state/stack-either-way conf=/guest/configuration/stack-either-way
        older() {
            mount -t overlay older $S/etc -o lowerdir=$S/etc,upperdir=$E/upper,workdir=$E/work\\
,index=on,redirect_dir=nofollow,metacopy=off
        }
        up && echo ours >$S/etc/ours && echo more >>$S/etc/os-release && umount $S/etc && older &&
        echo older >$S/etc/older && echo more >>$S/etc/sub/data && mv $S/etc/ours $S/etc/moved &&
        umount $S/etc && down && up &&
        cat $S/etc/older $S/etc/moved && tail -qn 1 $S/etc/os-release $S/etc/sub/data &&
        cat $S/etc/hostname && echo again >$S/etc/again && down &&
        mount --make-shared /run && cfs-setup-root --sysroot /disk --config $conf --soft-reboot \\
            $SECOND && S=/run/nextroot && cat $S/etc/older $S/etc/again $S/etc/hostname &&
        tail -n 1 $S/etc/sub/data && echo second >>$S/etc/sub/data && rm $S/etc/moved &&
        tail -n 2 $S/etc/sub/data
        """,
        stdout=r"\Aolder\nours\nmore\n.*more\nfixture\nolder\nagain\nsecond\n"
        r".*more\n.*more\nsecond\n\Z",
        end="umount $S/etc $S/sysroot $S 2>/dev/null; rm -rf /run/cfs/nextroot.json /run/nextroot;"
        "mount --make-private /run; S=/disk; down\n",
        etc="overlay",
        var="none",
        sysroot_readonly=False,
        state_etc="/state/stack-either-way",
    )
