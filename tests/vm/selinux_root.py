# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A labelled root: Debian 13 with systemd and Debian's SELinux policy, enforcing, and its store.

What to do once it is up comes on a second disk, as in systemd_root.py.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from tests.demo.image import Image, build_image
from tests.demo.root import build_root

from . import extension_disk
from .disks import MIB
from .extension_disk import add_extensions
from .once import BUILD, REPOSITORY, STAMP, made_once
from .repository import REPOSITORY_FORMAT, add_image, make_repository
from .store import sealed_disk
from .systemd_root import AGENT, PACKAGES, SEAL, SERVICE, WITHOUT_MODULES, rounded
from .toolbox import Toolbox

_POLICY = ("selinux-policy-default", "policycoreutils")
_CONFIG = "SELINUX=enforcing\nSELINUXTYPE=default\n"
# Emulated, and beside others, all of it takes minutes: no limit of systemd's may end it.
_PATIENT = "[Service]\nTimeoutSec=infinity\nWatchdogSec=0\n"
_MANAGER = "[Manager]\nDefaultTimeoutStartSec=infinity\nDefaultDeviceTimeoutSec=infinity\n"
STORE_LABEL = b"system_u:object_r:usr_t:s0\0"
MODULE = REPOSITORY / "selinux/cfs.cil"
WITH_MODULE = "/usr/share/policy-with-cfs"
"""In the tree: what /etc/selinux/default is once the module is installed."""
# As docs/howto/selinux.md has it: by the tree's own tools, before the image is made.
LABEL = "setfiles -m -F /etc/selinux/default/contexts/files/file_contexts /"
# The policy stays as it was: what the module is needed for is seen too.
INSTALL = f"""
cp -a /etc/selinux/default /etc/selinux/plain
mkdir -p /var/lib/selinux/default
semodule -X 100 -n -s default $(printf -- '-i %s ' /usr/share/selinux/default/*.pp.bz2)
semodule -n -s default -i /usr/share/cfs/selinux/cfs.cil
mv /etc/selinux/default {WITH_MODULE}
mv /etc/selinux/plain /etc/selinux/default
rm -r /var/lib/selinux
"""


@dataclass(frozen=True)
class SelinuxRoot:
    """The image, and a disk with its store and the empty directory /state."""

    image: Image
    extension: str
    """The digest of a sysext in the same store, "debug"."""
    disk: Path
    """A file system without a partition table. Boot overlays of it."""

    def carried(self, extended: bool = False) -> bytes:
        """The carried file, with the extension or without."""
        named = {"sysext.debug": Digest.parse(self.extension, "a test")} if extended else {}
        return payload_write.write([Digest.parse(self.image.digest, "a test")], named)


def make_selinux_root(toolbox: Toolbox) -> SelinuxRoot:
    """Build (or find) it. Needs root."""
    place = BUILD / "vm-cache" / "selinux-root"
    place.mkdir(parents=True, exist_ok=True)
    tree = build_root(
        place / "root", (*PACKAGES, *_POLICY), masked=WITHOUT_MODULES,
        files={
            "usr/libexec/test-agent": (0o755, AGENT),
            "usr/lib/systemd/system/test-agent.service": (0o644, SERVICE),
            "etc/selinux/config": (0o644, _CONFIG),
            "etc/hostname": (0o644, "labelled\n"),
            "usr/share/cfs/selinux/cfs.cil": (0o644, MODULE.read_text()),
            "usr/lib/systemd/system/service.d/10-test.conf": (0o644, _PATIENT),
            "usr/lib/systemd/system.conf.d/10-test.conf": (0o644, _MANAGER),
        },
        enabled=["test-agent.service"],
        finish=INSTALL + LABEL,
    )  # fmt: skip
    stamp = (tree.parent / STAMP).read_text()
    image, objects = build_image(place / "image", tree, stamp)

    def make(directory: Path) -> None:
        store = make_repository(directory / "tree" / "composefs")
        shutil.copytree(objects, store / "objects", dirs_exist_ok=True)
        add_image(store, image.file, image.digest)
        digests = add_extensions(store, directory / "extensions", ["debug"])
        (directory / "extension").write_text(digests["debug"])
        # An overlay for state is above a loop device, and udev looks at the file behind that.
        os.setxattr(store / "images" / image.digest, "security.selinux", STORE_LABEL)
        size = sum(path.lstat().st_size + 8192 for path in (directory / "tree").rglob("*"))
        disk = sealed_disk(
            toolbox, directory / "tree", SEAL, size=rounded(size * 5 // 4 + 96 * MIB)
        )
        shutil.rmtree(directory / "tree")
        # Relative: the folder of a checkout may be moved, or be a link to another one's.
        (directory / "disk").symlink_to(os.path.relpath(disk, directory))

    extensions = Path(extension_disk.__file__).read_bytes()
    key = repr((image.digest, SEAL, STORE_LABEL, REPOSITORY_FORMAT, extensions))
    sealed = made_once(place / "sealed", key, make)
    extension = (sealed / "extension").read_text()
    return SelinuxRoot(image, extension, (sealed / "disk").resolve())
