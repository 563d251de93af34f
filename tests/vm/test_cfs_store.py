# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-store` with a kernel that has fs-verity: this machine's Python and package, in a guest.

What the kernel cannot be made to do is in tests/host/store/test_add.py and test_seal.py.
"""

import _cfs
import _cfshost
import gzip
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import pyinit
from pyinit.host.store import fsverity, make_image
from tests.host.store import layered, written
from tests.host.store.layered import tar

from .cases import Case, LazyResults, Results, run_cases
from .disks import MIB, ext4
from .guest import Disk
from .toolbox import Toolbox

OBJECTS = 5000
SECONDS = 60  # a limit for a busy machine, far more than it takes

HELLO_HEX = "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64"
WRONG = "0" * 62
IMAGE = written.image(written.directory((b"hello", written.stored(HELLO_HEX, size=11))))
IMAGE_HEX = fsverity.digest_blocks(iter([IMAGE]), _cfs.SHA256).hex

LARGE = b"large\n" * 50_000
LARGE_HEX = fsverity.digest_blocks(iter([LARGE]), _cfs.SHA256).hex
LAYER = tar([("d/large", tarfile.REGTYPE, {}, LARGE), ("d/small", tarfile.REGTYPE, {}, b"small")])


def layer_digest() -> str:
    """Of the image of LAYER."""
    with TemporaryDirectory() as name:
        return make_image.digest(layered.image(layered.written(Path(name), [LAYER]))).hex


LAYER_HEX = layer_digest()

CASES = (
    Case(
        "many",
        "cfs_store seal /many",
        limit=SECONDS,
        stdout=rf"^{OBJECTS} objects: {OBJECTS} sealed, 0 were sealed, 0 not sealed, 0 of other",
    ),
    Case("again", "cfs_store seal /many", limit=SECONDS, stdout=f"{OBJECTS} were sealed"),
    Case(
        "read-only",
        "mount -o remount,ro /disk && cfs_store seal /many; code=$?; mount -o remount,rw /disk\n"
        "exit $code",
        limit=SECONDS,
        stdout=f"{OBJECTS} were sealed",
    ),
    Case(
        "add",
        "cfs_store add -q --object-store /few --create --verity require /hello --image /image\n"
        f"measure /disk/few/images/{IMAGE_HEX}; measure /disk/few/meta.json | cut -c -7\n"
        f"measure /disk/few/images/refs/cfs/{IMAGE_HEX}",
        stdout=f"^sha256:{HELLO_HEX}\nsha256:{IMAGE_HEX}\nsha256:{IMAGE_HEX}\nsha256:\n"
        f"sha256:{IMAGE_HEX}$",
        stderr="^$",
        limit=SECONDS,
    ),
    Case(
        "sealed",
        "cfs_store add --object-store /few --verity off /image; [ $? = 1 ] && \n"
        "cfs_store check --sealed /few",
        stdout="^2 objects, 2 sealed, 1 images, 0 faults$",
        stderr="whose objects all have fs-verity",
        limit=SECONDS,
    ),
    Case(
        "sha512",
        "mkdir -p /disk/long/objects; cp -r /disk/few/objects/1e /disk/long/objects\n"
        "cfs_store add --object-store /long --hash sha512 --verity require /hello &&\n"
        "cfs_store seal /long",
        stdout="2 objects: 1 sealed, 1 were sealed",
        limit=SECONDS,
    ),
    Case(
        "image",
        "cfs_store image -q --object-store /made --create --verity require /layer.gz\n"
        "cfs_store image -q --object-store /made /source >/dev/null &&\n"
        f"cfs_store check --sealed /made && measure /disk/made/images/{LAYER_HEX}\n"
        f"measure /disk/made/objects/{LARGE_HEX[:2]}/{LARGE_HEX[2:]}",
        stdout=f"^sha256:{LAYER_HEX}\n4 objects, 4 sealed, 2 images, 0 faults\n"
        f"sha256:{LAYER_HEX}\nsha256:{LARGE_HEX}$",
        stderr="^$",
        limit=SECONDS,
    ),
    Case(
        "busy",
        "mkdir -p /disk/busy/objects/1e; cp /disk/hello /disk/busy/objects/1e/"
        f"{HELLO_HEX[2:]}\n"
        f"exec 8>>/disk/busy/objects/1e/{HELLO_HEX[2:]}; cfs_store seal /busy",
        code=2,
        limit=SECONDS,
        stderr=r"1 not sealed: open for writing somewhere.*\(ETXTBSY\)",
    ),
    Case("freed", "cfs_store seal /busy", limit=SECONDS, stdout="1 objects: 1 sealed"),
    Case(
        "wrong",
        f"mkdir -p /disk/wrong/objects/00; cp /disk/hello /disk/wrong/objects/00/{WRONG}\n"
        "cfs_store seal /wrong",
        code=32,
        limit=SECONDS,
        stderr=f"refused: measure: /wrong/objects/00/{WRONG}: sha256:{HELLO_HEX}, expected ",
    ),
    Case(
        "no-fs-verity",
        "mount -t tmpfs tmpfs /disk/tmp; mkdir /disk/tmp/objects\n"
        "cfs_store add --object-store /tmp --verity require /hello; code=$?\n"
        "umount /disk/tmp; exit $code",
        code=32,
        limit=SECONDS,
        stderr=r"not sealed: no fs-verity on this file system or kernel .*\(ENOTTY\)",
    ),
)

SETUP = """
mount -t ext4 /dev/vda /disk
mount -t proc proc /disk/proc
mount -t devtmpfs dev /disk/dev
"""

COMMAND = f"""#!/usr/bin/busybox sh
export PYTHONPATH=/python PYTHONDONTWRITEBYTECODE=1
exec chroot /disk {sys.base_prefix}/bin/python3 -sc '
from pyinit.host.commands.cfs_store import main
raise SystemExit(main())' "$@"
"""


@pytest.fixture(scope="session")
def guest(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> LazyResults:
    def run() -> Results:
        directory = tmp_path_factory.mktemp("cfs-store")
        tree = directory / "tree"
        tree.mkdir()
        install_python(tree)
        (tree / "hello").write_bytes(b"hello world")
        (tree / "image").write_bytes(IMAGE)
        (tree / "layer.gz").write_bytes(gzip.compress(LAYER))
        (tree / "source/d").mkdir(parents=True)
        (tree / "source/d/large").write_bytes(LARGE)
        (tree / "source/d/other").write_bytes(b"other\n" * 50)
        fill(tree / "many" / "objects")
        disk = ext4(toolbox, directory / "disk", tree, 512 * MIB)
        shutil.rmtree(tree)
        return run_cases(
            toolbox,
            toolbox.kernel("stable"),
            CASES,
            setup=SETUP,
            disks=[Disk(disk)],
            files={"usr/bin/cfs_store": COMMAND},
            cpus=2,
        )

    return LazyResults(run)


@pytest.mark.vm
@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_case(guest: LazyResults, name: str) -> None:
    guest.check(name)


def fill(objects: Path) -> None:
    for number in range(OBJECTS):
        content = (b"%d\n" % number) * (1 + number % 2000)
        digits = fsverity.digest_blocks(iter([content]), _cfs.SHA256).hex
        path = objects / digits[:2] / digits[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def install_python(tree: Path) -> None:
    """The interpreter that runs this, with its standard library, libraries and our package."""
    python = Path(sys.base_prefix, "bin/python3").resolve()
    library = Path(sysconfig.get_path("stdlib"))
    copy(tree, python)
    (tree / sys.base_prefix.lstrip("/") / "bin/python3").symlink_to(python.name)
    unneeded = shutil.ignore_patterns("test", "idlelib", "ensurepip", "tkinter")
    shutil.copytree(library, tree / library.relative_to("/"), ignore=unneeded)
    package = Path(pyinit.__file__).parent
    shutil.copytree(package, tree / "python/pyinit", ignore=shutil.ignore_patterns("__pycache__"))
    extensions = [Path(_cfs.__file__), Path(_cfshost.__file__)]
    for extension in extensions:
        shutil.copy(extension, tree / "python")
    dynamic = [python, *extensions, *library.glob("lib-dynload/*.so")]
    linked = subprocess.run(
        ["ldd", *dynamic], capture_output=True, text=True, check=False, timeout=600
    )
    for needed in sorted(set(re.findall(r"(?:=> |^\t)(/\S+) \(", linked.stdout, re.MULTILINE))):
        copy(tree, Path(needed))
    for name in ("proc", "dev", "tmp"):
        (tree / name).mkdir(exist_ok=True)


def copy(tree: Path, file: Path) -> None:
    target = tree / str(file).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(file, target)
