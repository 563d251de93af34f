# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Initrds by dracut without systemd, and a disk by which others would take them over."""

import os
import re
from pathlib import Path

import pytest

from . import disk_watch, dracut
from .disks import MIB, sparse_file
from .dracut import CARRIED, CRYPT_MODULES, SYSTEMD_MODULES, TOML, initrd
from .guest import Disk, boot
from .rootdisk import RootDisk, make_rootdisk
from .takeover import VAR_ON_DISK, attacked, check_composed, hostile_disk
from .toolbox import Toolbox

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and chroot need root")

LIMIT = 480  # several minutes where others keep the processors busy
POWER_OFF = '[failure]\naction = "poweroff"\ndelay = 0\n'


@pytest.fixture(scope="module")
def hostile(toolbox: Toolbox) -> tuple[RootDisk, Path]:
    rootdisk = make_rootdisk(toolbox)
    return rootdisk, hostile_disk(toolbox, rootdisk)


def start(
    toolbox: Toolbox, disks: list[Disk], by: str, append: str, files: dict[str, bytes | str],
    **more: object,
) -> str:  # fmt: skip
    """The console of a watched boot."""
    kernel = toolbox.kernel("stable")
    made = initrd(by, kernel, files, omit=SYSTEMD_MODULES, **more)  # type: ignore[arg-type]
    console = boot(
        toolbox,
        kernel=kernel.vmlinuz,
        initrd=disk_watch.watched(made.data),
        append=f"{append} {disk_watch.APPEND}",
        disks=disks,
        limit=LIMIT,
    )
    text = console.text.replace("\r", "")
    assert not console.timed_out, console.tail
    assert not attacked(text)
    return text


@pytest.mark.parametrize(
    "by", [dracut.OLDEST, pytest.param(dracut.NEWEST, marks=pytest.mark.all_only)]
)
def test_nothing_of_the_bare_disk_is_read(
    toolbox: Toolbox, hostile: tuple[RootDisk, Path], by: str
) -> None:
    """Its hook for mounting sources files of the root, and obeys others."""
    rootdisk, disk = hostile
    text = start(
        toolbox, [Disk(disk, discard_writes=True)], by, "root=/dev/vda rw",
        {TOML: VAR_ON_DISK, CARRIED: rootdisk.carried("whole")},
    )  # fmt: skip
    check_composed(text, rootdisk.digests["whole"])


LUKS = "cf500000-0000-4000-8000-000000000013"
# Makes the second disk an encrypted copy of the first; then dracut's own crypt module unlocks it.
ENCRYPT = f"""
[ -b /dev/vdb ] && [ ! -e /run/encrypted ] && {{
    : >/run/encrypted
    cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \\
        --uuid {LUKS} --key-file /etc/key /dev/vdb
    cryptsetup open --key-file /etc/key /dev/vdb new
    cat /dev/vda >/dev/mapper/new
    cryptsetup close new
    udevadm trigger --action=change --name-match=/dev/vdb
}}
"""


def test_nor_of_an_encrypted_one_under_the_stable_one(
    toolbox: Toolbox, hostile: tuple[RootDisk, Path], tmp_path: Path
) -> None:
    """Which dracut's crypt module unlocks."""
    rootdisk, disk = hostile
    encrypted = sparse_file(tmp_path / "encrypted", disk.stat().st_size + 32 * MIB)
    text = start(
        toolbox, [Disk(disk, read_only=True), Disk(encrypted)], dracut.STABLE,
        f"root=/dev/mapper/root rd.luks.uuid={LUKS}",
        {TOML: VAR_ON_DISK, CARRIED: rootdisk.carried("whole")},
        add=CRYPT_MODULES,
        include={
            "etc/key": "a key file", "etc/crypttab": f"root UUID={LUKS} /etc/key\n",
            "var/lib/dracut/hooks/initqueue/settled/01-encrypt.sh": ENCRYPT,
        },
    )  # fmt: skip
    check_composed(text, rootdisk.digests["whole"])
    assert re.search(r'"device": "/dev/block/25\d:\d+"', text)


@pytest.mark.all_only
@pytest.mark.parametrize(
    ("digest", "toml", "append", "said"),
    [
        pytest.param(
            None, None, "rd.shell",
            r"cfs-setup-root: refused: source: \S+/rootfs\.digest: not in this initrd.*\n"
            r"(?s:.*)cfs-setup-root: reboot in 10 s\n(?s:.*)reboot: Restarting system",
            id="no digest",
        ),
        pytest.param(
            "whole", VAR_ON_DISK + POWER_OFF, "rd.break",
            r"cfs-setup-root: root is .*\n"
            r"(?s:.*)cfs-setup-root: poweroff in 0 s\n(?s:.*)reboot: Power down",
            id="a break before the root is started",
        ),
    ],
)  # fmt: skip
def test_no_word_of_the_command_line_gives_a_shell(
    toolbox: Toolbox, hostile: tuple[RootDisk, Path],
    digest: str | None, toml: str | None, append: str, said: str,
) -> None:  # fmt: skip
    rootdisk, disk = hostile
    files: dict[str, bytes | str] = {}
    if digest is not None:
        files[CARRIED] = rootdisk.carried(digest)
    if toml is not None:
        files[TOML] = toml
    text = start(
        toolbox, [Disk(disk, discard_writes=True)], dracut.OLDEST, f"root=/dev/vda rw {append}",
        files, add=("cfs",),
    )  # fmt: skip
    assert re.search(said, text), text
    assert not re.search(r"Entering emergency mode|[#$] $", text, re.MULTILINE)
    assert "root-init" not in text
