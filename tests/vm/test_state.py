# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What lies over the root: every mode of /etc, /var and /, hostile state, failures, edits kept.

The cases are in state/, by subject; all of them run in one boot for each file system.
"""

import subprocess
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config, payload

from .bundle import bundle
from .cases import Case, LazyResults, run_cases
from .guest import Disk
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .product import cfs_init
from .state.bootc import SHA256, SHA512, bootc
from .state.case import Setup
from .state.disk import StateDisk, make_disk
from .state.etc_var import etc_var
from .state.failures import attaching, full, in_use, missing
from .state.hostile import hostile
from .state.inherited import inherited, leftovers
from .state.root import medium, root
from .state.soft_reboot import soft_reboot
from .state.stacking import stacking
from .state.storage import images, subvolumes
from .store import Store
from .toolbox import Toolbox

QUOTA_MODULES = ("quota_v2",)
_ANYWHERE = [
    *etc_var(),
    *root(),
    *hostile(),
    *missing(),
    *attaching(),
    *in_use(),
    *images(),
    *soft_reboot(),
    *bootc(),
    *stacking(),
]
# Filling comes last, and not to btrfs: how that fills up cannot be said beforehand. A medium is a
# copy of the disk, and two btrfs with one UUID are taken for one.
ON_EXT4 = [*_ANYWHERE, *inherited(), *leftovers(), *medium(), *full()]
ON_BTRFS = [*_ANYWHERE, *subvolumes()]


def disk(toolbox: Toolbox, made: StateDisk, file_system: str, directory: Path) -> Path:
    """An ext4 hands projects, which need quotas, on to what is made in a directory; and it can
    encrypt."""
    sealed = made.disk(file_system)
    if file_system != "ext4":
        return sealed
    copy = directory / "disk"
    subprocess.run(["cp", "--sparse=always", sealed, copy], check=True, timeout=60)
    toolbox.run("tune2fs", "-O", "project,encrypt", copy)
    return copy


def run(
    toolbox: Toolbox,
    store: Store,
    role: str,
    file_system: str,
    setups: list[Setup],
    factory: pytest.TempPathFactory,
) -> LazyResults:
    directory = factory.mktemp("state")

    def boot() -> object:
        made = make_disk(toolbox, store)
        carried = payload_write.write([Digest.parse(made.digest, "a test")])
        known = f"DIGEST={made.digest} SECOND={made.second} FS={file_system}\n"
        known += f"SHA512={made.cfsctl[SHA512]} SHA256={made.cfsctl[SHA256]}\n"
        tools = bundle("strace", "usr/bin/strace") | bundle("setpriv8", "usr/bin/setpriv")
        if file_system == "btrfs":
            tools |= bundle("btrfs", "usr/bin/btrfs", toolbox.guest_tree)
        return run_cases(
            toolbox,
            toolbox.kernel(role),
            [
                Case(
                    s.case.name,
                    known + s.case.script,
                    limit=s.case.limit,
                    code=s.case.code,
                    stdout=s.case.stdout,
                    stderr=s.case.stderr,
                )
                for s in setups
            ],
            setup=f"mount -t {file_system} /dev/vda /disk",
            modules=(
                *GUEST_MODULES,
                *FILE_SYSTEM_MODULES["ext4"],
                *FILE_SYSTEM_MODULES["btrfs"],
                *HASH_MODULES,
                *QUOTA_MODULES,
            ),
            files={
                "usr/bin/cfs-setup-root": cfs_init(),
                payload.CARRIED.lstrip("/"): carried,
                **{f"guest/configuration/{s.case.name}": config.format(s.settings) for s in setups},
                **tools,
            },
            disks=[
                Disk(disk(toolbox, made, file_system, directory), discard_writes=True),
                *([Disk(made.disk("ext4"), read_only=True)] if file_system == "ext4" else ()),
            ],
        )

    return LazyResults(boot)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def on_ext4(
    toolbox: Toolbox, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> LazyResults:
    """All in one boot of the stable kernel (6.12, 2026-11: it counts a file-backed EROFS as a
    level of stacking)."""
    return run(toolbox, store, "stable", "ext4", ON_EXT4, tmp_path_factory)


@pytest.fixture(scope="session")
def on_btrfs(
    toolbox: Toolbox, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> LazyResults:
    """All in one boot of the newest kernel."""
    return run(toolbox, store, "newest", "btrfs", ON_BTRFS, tmp_path_factory)


@pytest.mark.parametrize("name", [setup.case.name for setup in ON_EXT4])
def test_on_ext4(on_ext4: LazyResults, name: str) -> None:
    on_ext4.check(name)


@pytest.mark.newest
@pytest.mark.parametrize("name", [setup.case.name for setup in ON_BTRFS])
def test_on_btrfs(on_btrfs: LazyResults, name: str) -> None:
    on_btrfs.check(name)


@pytest.mark.parametrize("kind", ["ext4", pytest.param("btrfs", marks=pytest.mark.newest)])
def test_the_copy_for_a_bind_is_what_the_image_shows(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """Content, links, owners, modes, times, xattrs; file systems list them in different orders."""
    guest: LazyResults = request.getfixturevalue(f"on_{kind}")
    copy, image = (
        sorted(sorted(line.split(" ")) for line in part.splitlines())
        for part in guest.check("copy").stdout.split("AND\n")
    )
    assert len(image) == 10
    assert copy == image
