# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The sealed store that other tests mount: right digests, on every kernel, and breakable."""

from pathlib import Path

import pytest

from . import kernels
from .cases import Case, LazyResults, run_cases
from .disks import ext4_offset, flip_byte
from .guest import Disk
from .images import Member, erofs, redirected
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .repository import object_path
from .store import LARGE, SEAL, Store, sealed_disk
from .toolbox import Toolbox

pytestmark = pytest.mark.vm

PROGRAM = "usr/bin/program"
MOUNTED = """
mkdir -p /mnt/image /mnt/root
mount -t erofs -o ro,loop {image} /mnt/image || exit 90
mount -t overlay -o ro,metacopy=on,redirect_dir=on,verity=require,\
lowerdir=/mnt/image::/disk/repo/objects root /mnt/root || exit 91
"""
UNMOUNTED = "; code=$?; umount /mnt/root && umount /mnt/image && exit $code"


def _cases(store: Store) -> list[Case]:
    image = MOUNTED.format(image="/disk/image.cfs")
    own = MOUNTED.format(image="/disk/own.erofs")
    return [
        Case(
            "sha256", f"measure /disk/repo/images/{store.sha256}", stdout=f"^sha256:{store.sha256}$"
        ),
        Case(
            "sha512", f"measure /disk/repo/images/{store.sha512}", stdout=f"^sha512:{store.sha512}$"
        ),
        Case("unsealed", "measure /disk/unsealed.cfs", code=1, stderr="ENODATA"),
        Case(
            "reads",
            f"{image} cmp /mnt/root/{PROGRAM} "
            f"/disk/repo/{object_path(store.objects[PROGRAM])} {UNMOUNTED}",
        ),
        Case("inline", f"{image} cat /mnt/root/etc/hostname {UNMOUNTED}", stdout="^fixture$"),
        Case(
            "own-image",
            f"{own} readall /mnt/root/good {UNMOUNTED}",
            stdout=f"^{len(LARGE[PROGRAM])}$",
        ),
        Case(
            "own-image-wrong-digest",
            f"{own} readall /mnt/root/bad {UNMOUNTED}",
            code=1,
            stderr="EIO",
        ),
    ]


MOUNT_CASES = ("reads", "inline", "own-image", "own-image-wrong-digest")
MEASURE_CASES = ("sha256", "sha512", "unsealed")


@pytest.fixture(scope="session")
def tree(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store's tree, and an image made by mkfs.erofs."""
    directory = tmp_path_factory.mktemp("tree") / "tree"
    store.copy_tree(directory)
    digest, size = store.objects[PROGRAM], len(LARGE[PROGRAM])
    bad = redirected("bad", digest, size)
    wrong = redirected("bad", store.objects["etc/os-release"], size)
    bad.xattrs.update({name: wrong.xattrs[name] for name in list(bad.xattrs)[1:]})
    erofs(
        store.toolbox,
        directory / "own.erofs",
        [Member("etc/", mode=0o755), redirected("good", digest, size), bad],
    )
    return directory


@pytest.fixture(scope="session")
def guests(toolbox: Toolbox, store: Store, tree: Path) -> dict[tuple[str, str], LazyResults]:
    """One boot for each kernel and file system."""

    def run(role: str, file_system: str) -> LazyResults:
        modules = (*GUEST_MODULES, *FILE_SYSTEM_MODULES[file_system], *HASH_MODULES)
        return LazyResults(
            lambda: run_cases(
                toolbox,
                toolbox.kernel(role),
                _cases(store),
                setup=f"mount -t {file_system} /dev/vda /disk",
                modules=modules,
                disks=[Disk(sealed_disk(toolbox, tree, SEAL, file_system), discard_writes=True)],
            )
        )

    return {(role, name): run(role, name) for role in kernels.ROLES for name in ("ext4", "btrfs")}


@pytest.mark.parametrize("file_system", ["ext4", "btrfs"])
@pytest.mark.parametrize(
    ("role", "name"),
    [
        *((role, name) for role in kernels.ROLES for name in MEASURE_CASES),
        # verity=require is of Linux 6.6.
        *((role, name) for role in kernels.MOUNTS for name in MOUNT_CASES),
    ],
)
def test_case(
    guests: dict[tuple[str, str], LazyResults], role: str, file_system: str, name: str
) -> None:
    guests[role, file_system].check(name)


def test_the_kernel_that_refuses_has_no_verity_require(
    guests: dict[tuple[str, str], LazyResults],
) -> None:
    assert guests["refuses", "ext4"]["reads"].code == 91


def test_tampered_on_the_raw_disk(toolbox: Toolbox, store: Store, tmp_path: Path) -> None:
    file = f"/repo/{object_path(store.objects[PROGRAM])}"
    raw = tmp_path / "disk.raw"
    toolbox.run("qemu-img", "convert", "-O", "raw", store.disk("ext4"), raw)
    flip_byte(raw, ext4_offset(toolbox, raw, file, block=1))
    results = run_cases(
        toolbox,
        toolbox.kernel("stable"),
        [
            Case("measures", f"measure /disk{file}", stdout=store.objects[PROGRAM]),
            Case("reads", f"readall /disk{file}", code=1, stdout="^4096$", stderr="EIO"),
        ],
        setup="mount -t ext4 /dev/vda /disk",
        disks=[Disk(raw)],
    )
    results.check("measures")
    results.check("reads")


def test_overlay_leaves_the_base_alone(toolbox: Toolbox, store: Store, tmp_path: Path) -> None:
    before = store.disk("ext4").stat().st_mtime_ns
    results = run_cases(
        toolbox,
        toolbox.kernel("stable"),
        [Case("writes", "echo x >/disk/state/x && sync")],
        setup="mount -t ext4 /dev/vda /disk",
        disks=[store.overlay("ext4", tmp_path / "disk")],
    )
    results.check("writes")
    assert store.disk("ext4").stat().st_mtime_ns == before
    assert "/x/" not in toolbox.run("debugfs", "-R", "ls -p /state", store.disk("ext4"))
