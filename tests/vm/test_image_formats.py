# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An image in the first format of composefs-rs: the kernels that mount ours mount it too. Links and
directories stand where that format has them, at the ends of blocks too. And init boots one."""

import _cfshost
import hashlib

import pytest

from .guest import boot
from .initrd import GUEST_MODULES, guest_initrd
from .kernels import MOUNTS, NEWEST, STABLE
from .rootdisk import CARRIED, RootDisk
from .test_init import check_root, start
from .toolbox import Toolbox

LINKS, DIRECTORIES = 40, 150
CONTENT = b"hello world\n" * 50
DIGEST = _cfshost.verity_digest(CONTENT, 1).hex()
PLACE = f"{DIGEST[:2]}/{DIGEST[2:]}"
# overlayfs takes no lower layers on ramfs.
INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /usr/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
modprobe -a loop erofs overlay
mkdir -p /mnt/image /mnt/store /mnt/root
mount -t tmpfs t /mnt/store; cp -a /img/. /mnt/store/
mount -t erofs -o loop,ro /mnt/store/image /mnt/image
count=0
for link in /mnt/image/l*; do
	text=$(readlink "$link")
	[ ${#text} = 1000 ] && count=$((count + 1))
done
lower=/mnt/image::/mnt/store/objects
mount -t overlay -o ro,metacopy=on,redirect_dir=on,lowerdir=$lower o /mnt/root
sum=$(sha256sum /mnt/root/d000/file)
echo "SEEN: $count $(ls -d /mnt/root/d* | wc -l) $(cat /mnt/root/small) ${sum%% *}"
poweroff -f
"""


def _image() -> bytes:
    """Each link is a quarter of a block, and each directory has a label."""
    lines = ["/ 0 40755 2 0 0 0 0.0 - - -", "/small 5 100644 1 0 0 0 0.0 - small -"]
    lines += [f"/l{at:03} 1000 120777 1 0 0 0 0.0 {'t' * 1000} - -" for at in range(LINKS)]
    lines += [
        f"/d{at:03} 0 40755 1 0 0 0 0.0 - - - security.selinux=label" for at in range(DIRECTORIES)
    ]
    lines.append(f"/d000/file {len(CONTENT)} 100644 1 0 0 0 0.0 {PLACE} - {DIGEST}")
    return _cfshost.make_image("\n".join(lines).encode(), 2, 2)


@pytest.mark.parametrize("role", MOUNTS)
def test_a_kernel_mounts_it(toolbox: Toolbox, role: str) -> None:
    kernel = toolbox.kernel(role)
    files: dict[str, bytes | str] = {"img/image": _image(), f"img/objects/{PLACE}": CONTENT}
    initrd = guest_initrd(toolbox, kernel, INIT, modules=GUEST_MODULES, files={**files})
    console = boot(toolbox, kernel=kernel.vmlinuz, initrd=initrd)
    seen = f"SEEN: {LINKS} {DIRECTORIES} small {hashlib.sha256(CONTENT).hexdigest()}"
    assert seen in console.text, console.tail


@pytest.mark.parametrize("role", [STABLE, pytest.param(NEWEST, marks=pytest.mark.newest)])
def test_init_boots_it(toolbox: Toolbox, rootdisk: RootDisk, role: str) -> None:
    """The image of the same root in our format is in the store too."""
    carried = {CARRIED: rootdisk.carried("format-2")}
    console = start(toolbox, role, rootdisk.disk("ext4"), "root=/dev/vda", carried)
    check_root(console, rootdisk.digests["format-2"])
