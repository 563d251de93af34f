# SPDX-License-Identifier: Apache-2.0 OR MIT
"""From packages to a disk that boots. What is slow is kept under build/demo/."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.demo.guest_python import product_key
from tests.demo.image import Image, build_image, forge_image
from tests.demo.progress import Failed, say, show, step
from tests.demo.root import SUITE, USER_PACKAGES, build_root
from tests.demo.store import STORE, fill_store, make_root_image, seal_in_guest
from tests.demo.uki import build_uki, demo_initrd
from tests.vm.disks import MIB, esp, gpt
from tests.vm.guest import kvm_works
from tests.vm.once import BUILD, STAMP, made_once
from tests.vm.toolbox import Kernel, Toolbox

HERE = Path(__file__).parent
DEMO = BUILD / "demo"
KERNEL = "stable"
# Read inside the guest, and changed for the last refusal.
WITNESS = "usr/share/common-licenses/GPL-3"
MINIMUM_FILES = 5000

_ESP_PARTUUID = "cf500000-0000-4000-8000-000000000001"
_ROOT_PARTUUID = "cf500000-0000-4000-8000-000000000002"


@dataclass(frozen=True)
class Machine:
    """What was built: a disk with the UKI on its ESP and the sealed store on its root."""

    box: Toolbox
    disk: Path
    root_offset: int
    root_image: Path
    """The root file system alone, as it is on the disk."""
    image: Image
    forged: Image
    witness: Path
    witness_object: str


def build() -> Machine:
    """Everything up to the first boot."""
    os.makedirs(DEMO, exist_ok=True)
    box = Toolbox()
    with step("tools and kernel, as Debian packages"):
        _ = box.tree
        kernel = box.kernel(KERNEL)
    virtualization = "KVM" if kvm_works(box) else "TCG (emulation: KVM does not work here)"
    say(f"kernel {kernel.version}, guests under {virtualization}")

    with step(f"root: Debian {SUITE}, {len(USER_PACKAGES)} packages and what they need"):
        root = _root(kernel)
    files = sum(len(names) for _, _, names in os.walk(root))
    say(f"  {files} files")
    if files < MINIMUM_FILES:
        raise Failed(f"{files} files are no real root, expected {MINIMUM_FILES}")

    with step("image: cfs-store image"):
        image, objects = build_image(DEMO / "image", root, _stamp(root.parent))
        forged = forge_image(DEMO / "forged", image, "/etc/hostname", "forged\n")
    say(f"  digest {image.digest}")

    with step("store: cfs-store add, then cfs-store seal in a guest with fs-verity"):
        sealed = _sealed_root(box, kernel, objects, [image, forged])
    show((sealed / "said").read_text())

    with step("UKI: ukify, cfs-uki seal"):
        run = DEMO / "run"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        uki = build_uki(
            run / "demo.efi", box, kernel, demo_initrd(kernel, BUILD / "cfs-init"),
            f"console=ttyS0 no_timer_check root=PARTUUID={_ROOT_PARTUUID}",
            root / "usr/lib/os-release", image.digest,
        )  # fmt: skip
    with step("disk: GPT, ESP with the UKI, ext4 with the store"):
        esp_image = esp(box, run / "esp.img", {"EFI/BOOT/BOOTX64.EFI": uki}, 128 * MIB)
        disk = run / "disk.img"
        offsets = gpt(
            box, disk, esp_image=esp_image, root_image=sealed / "root.img",
            esp_partuuid=_ESP_PARTUUID, root_partuuid=_ROOT_PARTUUID,
        )  # fmt: skip
        esp_image.unlink()
    witness = root / WITNESS
    digest = box.run("fsverity", "digest", "--compact", witness).strip()
    return Machine(
        box, disk, offsets["root"], sealed / "root.img", image, forged, witness,
        f"{STORE}/objects/{digest[:2]}/{digest[2:]}",
    )  # fmt: skip


def _root(kernel: Kernel) -> Path:
    return build_root(
        DEMO / "root",
        files={
            "usr/libexec/composefs-demo/report": (0o755, (HERE / "report.sh").read_text()),
            "usr/lib/systemd/system/composefs-demo.service": (
                0o644, (HERE / "composefs-demo.service").read_text(),
            ),
        },
        enabled=["composefs-demo.service"],
        modules=kernel.modules_dir.parent,
        key=kernel.version,
    )  # fmt: skip


def _sealed_root(box: Toolbox, kernel: Kernel, objects: Path, images: list[Image]) -> Path:
    def make(directory: Path) -> None:
        tree = directory / "tree"
        tree.mkdir()
        fill_store(tree / STORE.removeprefix("/"), objects, images)
        file = make_root_image(box, directory / "root.img", tree)
        shutil.rmtree(tree)
        (directory / "said").write_text(seal_in_guest(box, kernel, file, DEMO / "seal.log") + "\n")

    key = repr(([image.digest for image in images], kernel.version, product_key(box)))
    return made_once(DEMO / "sealed", key, make)


def _stamp(directory: Path) -> str:
    return (directory / STAMP).read_text()
