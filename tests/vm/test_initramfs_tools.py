# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Initrds by the initramfs-tools of Debian 13, with our package installed."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from . import disk_watch, machine
from .guest import Disk, boot
from .once import BUILD, STAMP, made_once
from .product import cfs_init
from .rootdisk import RootDisk, make_rootdisk
from .takeover import VAR_ON_DISK, attacked, check_composed, hostile_disk
from .toolbox import Toolbox

pytestmark = pytest.mark.vm

_MAKE = """
set -e
version=$(basename /usr/lib/modules/*)
cp /usr/share/cfs/setup-root-conf.toml /out/default.toml
mkinitramfs -o /out/initrd "$version"
lsinitramfs /out/initrd >/out/list
cp /boot/vmlinuz-"$version" /out/vmlinuz
"""


def initrd(files: Mapping[str, bytes], settings: str = "") -> Path:
    """The directory with initrd, list, said, vmlinuz; `files` lie in /usr/lib/composefs.

    `settings`: of /etc/initramfs-tools/conf.d.
    """
    tree = machine.machine()

    def make(directory: Path) -> None:
        place, configuration = directory / "composefs", directory / "conf.d"
        place.mkdir()
        for name, content in {"cfs-init": cfs_init().read_bytes(), **files}.items():
            (place / name).write_bytes(content)
        (place / "cfs-init").chmod(0o755)
        configuration.mkdir()
        (configuration / "test").write_text(settings)
        said = machine.run(tree, _MAKE, {
            place: "/usr/lib/composefs", directory: "/out",
            configuration: "/etc/initramfs-tools/conf.d",
        })  # fmt: skip
        (directory / "said").write_text(said)

    use = repr((sorted(files.items()), settings))
    key = repr((_MAKE, use, (tree.parent / STAMP).read_text(),
                hashlib.sha256(cfs_init().read_bytes()).hexdigest()))  # fmt: skip
    name = hashlib.sha256(use.encode()).hexdigest()[:16]
    return made_once(BUILD / "vm-cache" / f"initramfs-tools-{name}", key, make)


@pytest.fixture(scope="module")
def hostile(toolbox: Toolbox) -> tuple[RootDisk, Path]:
    rootdisk = make_rootdisk(toolbox)
    return rootdisk, hostile_disk(toolbox, rootdisk)


def start(toolbox: Toolbox, made: Path, disk: Path, append: str = "") -> str:
    """The console of a watched boot."""
    console = boot(
        toolbox, kernel=made / "vmlinuz",
        initrd=disk_watch.watched((made / "initrd").read_bytes()),
        append=f"root=/dev/vda rootfstype=ext4 {disk_watch.APPEND} {append}",
        disks=[Disk(disk, discard_writes=True)], limit=480,
    )  # fmt: skip
    text = console.text.replace("\r", "")
    assert not console.timed_out, console.tail
    assert not attacked(text)
    return text


def test_it_boots_and_nothing_of_the_bare_disk_is_read(
    toolbox: Toolbox, hostile: tuple[RootDisk, Path]
) -> None:
    """Its init mounts the /usr of the root's etc/fstab, through a link if that is one."""
    rootdisk, disk = hostile
    made = initrd({"rootfs.digest": rootdisk.carried("whole"),
                   "setup-root-conf.toml": VAR_ON_DISK.encode()})  # fmt: skip
    text = start(toolbox, made, disk)
    digest = rootdisk.digests["whole"]
    assert re.search(rf"^cfs-setup-root: root is .*{digest}", text, re.MULTILINE), text
    check_composed(text, digest)
    assert re.search(r"^/etc/new: writable$", text, re.MULTILINE)
    assert re.search(r"^/run/cfs/root.json: .*\"level\": \"carried\"", text, re.MULTILINE)


SHELL = r"\(initramfs\)|[#$] $"
LOGGED = r"^(?:\[ *[\d.]+\] )?"  # a line of the console, by itself or by the kernel's log


@pytest.mark.parametrize(
    ("carried", "action", "said", "end"),
    [
        pytest.param(
            "0" * 64, "poweroff", "cfs-setup-root: refused: open: /root/composefs/",
            "poweroff in 0 s(?s:.*)reboot: Power down", id="an image that is not there",
        ),
        pytest.param(
            None, None, "cfs-setup-root: refused: source: .*: not in this initrd",
            "reboot in 10 s(?s:.*)reboot: Restarting system", id="no digest",
        ),
    ],
)  # fmt: skip
def test_a_refusal_ends_in_the_configured_action_and_in_no_shell(
    toolbox: Toolbox, hostile: tuple[RootDisk, Path],
    carried: str | None, action: str | None, said: str, end: str,
) -> None:  # fmt: skip
    rootdisk, disk = hostile
    files: dict[str, bytes] = {}
    if carried is not None:
        files["rootfs.digest"] = rootdisk.carried(carried)
    if action is not None:
        files["setup-root-conf.toml"] = f'[failure]\naction = "{action}"\ndelay = 0\n'.encode()
    text = start(toolbox, initrd(files, "CFS=yes\n"), disk)
    assert re.search(f"^{said}", text, re.MULTILINE), text
    assert re.search(f"{LOGGED}cfs-setup-root: {end}", text, re.MULTILINE), text
    assert not re.search(SHELL, text)
    assert "root-init" not in text


@pytest.mark.all_only
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("boot=local", "cfs: refused: boot=local: this initrd boots a sealed root"),
        # Where panic= has a value a break is no shell but a reboot.
        ("break=mount panic=", "Spawning shell within the initramfs"),
    ],
)
def test_no_word_of_the_command_line_leads_past_it(
    toolbox: Toolbox, hostile: tuple[RootDisk, Path], word: str, said: str
) -> None:
    rootdisk, disk = hostile
    toml = VAR_ON_DISK + '[failure]\naction = "poweroff"\ndelay = 0\n'
    made = initrd({"rootfs.digest": rootdisk.carried("whole"),
                   "setup-root-conf.toml": toml.encode()})  # fmt: skip
    text = start(toolbox, made, disk, word)
    assert said in text
    end = LOGGED + r"cfs-setup-root: poweroff in 0 s(?s:.*)reboot: Power down"
    assert re.search(end, text, re.MULTILINE), text
    assert not re.search(SHELL, text)
    assert "root-init" not in text


@pytest.mark.parametrize("toml", [None, VAR_ON_DISK])
def test_a_machine_that_is_none_of_ours_gets_nothing_of_it(toml: str | None) -> None:
    """Its next kernel would not boot. A configuration alone is no wish. The two scripts that are in
    each initrd do nothing without ours, /scripts/cfs."""
    made = initrd({} if toml is None else {"setup-root-conf.toml": toml.encode()})
    listed = (made / "list").read_text().splitlines()
    assert [name for name in listed if re.search(r"(^|/|-)cfs($|[-.])", name)] == [
        "scripts/init-top/cfs", "scripts/panic/cfs",
    ]  # fmt: skip
    said = [line for line in (made / "said").read_text().splitlines() if "cfs" in line]
    why = (
        "I: cfs: not in this initrd: there is /usr/lib/composefs/setup-root-conf.toml, but no "
        "/usr/lib/composefs/rootfs.digest, and this machine was not booted so. "
        "To have it in: CFS=yes in /etc/initramfs-tools/conf.d/cfs"
    )
    assert said == ([] if toml is None else [why])


def test_a_typo_stops_the_build() -> None:
    with pytest.raises(machine.MachineError, match=r"toml:2:\d+: .*mont.*mount"):
        initrd({"setup-root-conf.toml": b'[etc]\nmont = "transient"\n'}, "CFS=yes\n")
