# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An image in the initrd, or in the store and named by its digest: what the UKI has more, and when
the init of the root starts. The images are of 20 and 50 MB; both forms boot the same disk.

With `-icount` a guest's time is its instructions: 1 ns each. The disk answers at once there.
"""

import _cfshost
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.uki import payload_write
from pyinit.host.uki.read import EMBEDDED
from pyinit.initrd.root.digest import Digest
from tests.vm.disks import MIB
from tests.vm.guest import Disk, boot
from tests.vm.initrd import CONFIG, GUEST_MODULES, HASH_MODULES, boot_initrd, configuration
from tests.vm.once import made_once
from tests.vm.product import cfs_init
from tests.vm.repository import add_image
from tests.vm.rootdisk import CARRIED, RootDisk, make_rootdisk
from tests.vm.store import CACHE, sealed_disk
from tests.vm.toolbox import Toolbox

# Bytes of an image, and so many files more in it: each has its own object, which nobody reads.
SIZES = {20_000_000: 95_000, 50_000_000: 237_000}
NAMED, EMBED = "by its digest", "in the UKI"
_A_DIRECTORY = 250
# What Debian's kernels say of the first program of a root, when they execute it.
_STARTED = r"\[ *([\d.]+)\] Not activating Mandatory Access Control"


@dataclass(frozen=True)
class Cost:
    """`image`, `initrd`: bytes. `seconds`: from the kernel's start to the root's init."""

    image: int
    initrd: int
    seconds: float


def costs(*, icount: bool) -> dict[tuple[int, str], Cost]:
    """By the image's size and the form."""
    toolbox = Toolbox()
    disk, kernel = _make_disk(toolbox), toolbox.kernel("stable")
    place = sealed_disk(toolbox, disk.tree, disk.seal, size=256 * MIB)
    found = {}
    for size in SIZES:
        digest = disk.digests[str(size)]
        image = (disk.tree / "composefs/images" / digest).read_bytes()
        named = payload_write.write([Digest.parse(digest, "a bench")])
        for form, more in ((NAMED, {}), (EMBED, {EMBEDDED: image})):
            files = {CARRIED: named, CONFIG: configuration(failure="poweroff"), **more}
            modules = (*GUEST_MODULES, *HASH_MODULES)
            initrd = boot_initrd(kernel, cfs_init(), files=files, modules=modules)
            console = boot(
                toolbox,
                kernel=kernel.vmlinuz,
                initrd=initrd,
                append="root=/dev/vda",
                disks=[Disk(place, discard_writes=True)],
                memory=1024,
                icount=icount,
                limit=3600,
            )
            started = re.search(_STARTED, console.text)
            assert started, console.tail
            found[size, form] = Cost(len(image), len(initrd), float(started.group(1)))
    return found


def _make_disk(toolbox: Toolbox) -> RootDisk:
    plain = make_rootdisk(toolbox)

    def make(directory: Path) -> None:
        tree = directory / "tree"
        shutil.copytree(plain.tree, tree, symlinks=True)
        whole = tree / "composefs/images" / plain.digests["whole"]
        parts: list[bytes] = []
        _cfshost.Image(whole.read_bytes()).dump(lambda part: parts.append(bytes(part)))
        digests = {}
        for size, files in SIZES.items():
            image = directory / "image"
            image.write_bytes(_cfshost.make_image(b"".join(parts) + _more(files), 0, 0))
            digest = _cfshost.verity_digest(image.read_bytes(), 1).hex()
            add_image(tree / "composefs", image, digest)
            digests[str(size)] = digest
        (directory / "digests.json").write_text(json.dumps(digests))

    key = f"{Path(__file__).read_text()} {plain.digests}"
    directory = made_once(CACHE / "bench-embedded", key, make)
    digests = json.loads((directory / "digests.json").read_text())
    return RootDisk(toolbox, directory / "tree", digests)


def _more(files: int) -> bytes:
    lines = ["/usr/share 0 40755 2 0 0 0 0.0 - - -"]
    for number in range(files):
        directory = f"/usr/share/d{number // _A_DIRECTORY}"
        if number % _A_DIRECTORY == 0:
            lines.append(f"{directory} 0 40755 2 0 0 0 0.0 - - -")
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        path = f"{digest[:2]}/{digest[2:]}"
        lines.append(f"{directory}/f{number} 5000 100644 1 0 0 0 0.0 {path} - {digest}")
    return "".join(line + "\n" for line in lines).encode()
