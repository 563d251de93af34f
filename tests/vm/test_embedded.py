# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An image in the initrd itself (`cfs-uki seal --embed`): booted, and refused. The disk has its
objects and not the image."""

import _cfshost
import json
import os
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write
from pyinit.host.uki.read import EMBEDDED, OBJECTS
from pyinit.host.uki.seal import Embedded, carried_initrd
from pyinit.initrd.root.digest import Digest
from tests.demo.image import forge_image

from .cases import Case, LazyResults, run_cases
from .dracut import STABLE, TOML, initrd
from .faults import sweep
from .guest import Disk, boot
from .initrd import CONFIG, FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES, configuration
from .product import cfs_init, refusal
from .rootdisk import CARRIED, RootDisk
from .systemd_root import make_systemd_root, script_disk
from .test_init import check_root, has, start
from .test_init_failures import ALONE, CARRY, CONFIGURE, POWERED_OFF
from .toolbox import Toolbox

_REPORT = """
echo "state: $(systemctl is-system-running --wait)"
echo "hostname: $(cat /etc/hostname)"
echo "root: $(findmnt -n -o SOURCE,OPTIONS /)"
echo "record: $(tr -d '\\n' </run/cfs/root.json)"
"""
_MORE = b"/usr/in-the-initrd 0 100644 1 0 0 0 0.0 - - -\n"


@pytest.fixture(scope="session")
def image(rootdisk: RootDisk) -> bytes:
    """The root, with a file more, so that the store has no such image."""
    path = rootdisk.tree / "composefs/images" / rootdisk.digests["whole"]
    parts: list[bytes] = []
    _cfshost.Image(path.read_bytes()).dump(lambda part: parts.append(bytes(part)))
    return _cfshost.make_image(b"".join(parts) + _MORE, 0, 0)


def digest(image: bytes, algorithm: int = 1) -> Digest:
    return Digest(algorithm, _cfshost.verity_digest(image, algorithm))


@pytest.mark.parametrize(("role", "algorithm"), [("stable", 1), ("newest", 2)])
def test_it_boots(
    toolbox: Toolbox, rootdisk: RootDisk, image: bytes, role: str, algorithm: int
) -> None:
    """With one before it that is not there. What is left of it is the copy that is mounted."""
    named = digest(image, algorithm)
    absent = Digest(1, bytes(32))
    files = {CONFIG: configuration(failure="poweroff")}
    more = carried_initrd(payload_write.write([absent, named]), Embedded(image))
    disk = rootdisk.disk("ext4")
    console = start(toolbox, role, disk, "root=/dev/vda", files, more=more)
    record = check_root(console, named.hex, algorithm=algorithm)
    assert (record["embedded"], record["loop"]) == (True, True)
    assert (record["image"], record["missing_candidates"]) == (f"/{EMBEDDED}", [str(absent)])


@pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and chroot need root")
def test_in_an_initrd_of_dracut_with_systemd(toolbox: Toolbox, tmp_path: Path) -> None:
    """Behind it, as `cfs-uki payload` gives it to ukify."""
    root = make_systemd_root(toolbox)
    image = forge_image(tmp_path / "image", root.first, "/etc/hostname", "embedded\n")
    kernel = toolbox.kernel("stable")
    made = initrd(STABLE, kernel, {TOML: '[etc]\nmount = "transient"\n'}, add=("cfs",))
    named = payload_write.write([Digest.parse(image.digest, "a test")])
    more = carried_initrd(named, Embedded(image.file.read_bytes()))
    archive = script_disk(tmp_path / "script.tar", _REPORT)
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=made.data + bytes(-len(made.data) % 4) + more,
        append="root=/dev/vda", memory=1024, limit=480,
        disks=[Disk(root.disk, discard_writes=True), Disk(archive, read_only=True)],
    )  # fmt: skip
    pairs = (line.partition(": ") for line in console.results.decode().splitlines())
    found = {key: value for key, _, value in pairs}
    assert (found["state"], found["hostname"]) == ("running", "embedded"), (found, console.tail)
    assert found["root"].startswith(f"composefs:{image.digest} ro,")
    assert "verity=require" in found["root"]
    record = json.loads(found["record"])
    assert (record["embedded"], record["loop"]) == (True, True)


def objects_of(rootdisk: RootDisk, image: bytes) -> dict[str, bytes]:
    """As `--embed-objects` has them."""
    names = _cfshost.objects([_cfshost.Image(image)])[0].decode().split()
    place = rootdisk.tree / "composefs/objects"
    return {name: (place / name).read_bytes() for name in names}


@pytest.mark.parametrize("role", ["stable", "newest"])
def test_with_its_objects_it_needs_no_disk(
    toolbox: Toolbox, rootdisk: RootDisk, image: bytes, role: str
) -> None:
    """No `root=`, no store, and nothing of a disk that is there."""
    named = payload_write.write([digest(image)])
    files = {CONFIG: configuration(failure="poweroff")}
    more = carried_initrd(named, Embedded(image, objects_of(rootdisk, image)))
    console = start(toolbox, role, rootdisk.disk("ext4"), "", files, more=more)
    has(console, "root-init: pid 1")
    mount = f"overlay composefs:{digest(image).hex} ro,.*"
    found = has(console, rf"/proc/self/mountinfo: \d+ .* / / ro.* - {mount}")
    assert "verity=require" not in found.group(0)
    has(console, "/etc/hostname: booted")
    has(console, "/sysroot/marker: missing")
    for name, state in (("etc", ""), ("var", ""), ("usr", "not ")):
        has(console, f"/{name}/new: {state}writable")
    assert "/dev/vda" not in console.text.partition("root-init: pid 1")[2]
    record = json.loads(has(console, "/run/cfs/root.json: (.*)").group(1))
    assert (record["embedded"], record["verity"]) == (True, "memory")
    assert (record["store"], record["device"]) == (f"/{OBJECTS}", None)
    assert (record["canary"], record["etc"]) == ("usr/canary", "transient")
    has(console, "root-init: done")


# ---- refused, by PID 1 of a namespace

_EMBED = f"cp /guest/{{}} /tmp/alone/{EMBEDDED}\n"


def _refused(
    name: str, embedded: str, step: str, path: str, found: str, expected: str, more: str = ""
) -> Case:
    script = ALONE.format(
        prepare=more
        + CARRY.format(carried="/guest/carried")
        + CONFIGURE.format(configuration="/guest/configuration")
        + _EMBED.format(embedded),
        program="cfs-init", kind="tmpfs", source="alone",
    )  # fmt: skip
    line = refusal(step, path, found, expected, program="init").removesuffix(r"\Z")
    return Case(name, script, code=POWERED_OFF, stderr=rf"{line}init: poweroff in 0 s")


_ANY = "sha256:[0-9a-f]{64}"
CASES = (
    _refused("another", "another", "measure", f"/{EMBEDDED}", _ANY, _ANY),
    _refused("cut", "cut", "measure", f"/{EMBEDDED}", _ANY, _ANY),
    _refused(
        "without-a-loop-device", "image", "erofs", f"/{EMBEDDED}",
        r"kernel \S+ mounts it from a loop device only, and has none: .*ENOTBLK.",
        "module loop and nodes /dev/loop-control.*", "rmmod loop || exit 93\n",
    ),
)  # fmt: skip
# By a kernel or a filter that has no such call, or does not let it seal.
FAULTS = "inject -p -a -f rootfs.cfs -t /dev/vda -- /guest/init"


@pytest.fixture(scope="session")
def refusals(toolbox: Toolbox, rootdisk: RootDisk, image: bytes) -> LazyResults:
    files: dict[str, bytes | str | Path] = {
        "guest/carried": payload_write.write([digest(image)]),
        "guest/configuration": configuration(failure="poweroff"),
        "guest/image": image,
        "guest/another": image[:-1] + b"x",
        "guest/cut": image[:-4096],
        "usr/bin/cfs-init": cfs_init(),
    }
    return LazyResults(
        lambda: run_cases(
            toolbox, toolbox.kernel("stable"), CASES, append="root=/dev/vda",
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            disks=[Disk(rootdisk.disk("ext4"), discard_writes=True)],
            files=files,
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_refused(refusals: LazyResults, name: str) -> None:
    refusals.check(name)


@pytest.fixture(scope="session")
def faults(toolbox: Toolbox, rootdisk: RootDisk, image: bytes) -> LazyResults:
    files: dict[str, bytes | str | Path] = {
        CARRIED: payload_write.write([digest(image)]),
        CONFIG: configuration(failure="reboot"),
        EMBEDDED: image,
        "usr/bin/inject": sweep.injector(),
        "guest/init": cfs_init(),
    }
    return LazyResults(
        lambda: run_cases(
            toolbox, toolbox.kernel("stable"), [Case("all", FAULTS, limit=600)],
            append="root=/dev/vda",
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            disks=[Disk(rootdisk.disk("ext4"), discard_writes=True)],
            files=files,
        )
    )  # fmt: skip


def test_without_a_sealed_copy_nothing_boots(faults: LazyResults) -> None:
    """Each call from opening it to mounting the disk fails once, with each errno it can have."""
    found = sweep.parse(faults.check("all").stdout)
    print(f"{len(found)} runs with a fault")
    assert list(sweep.init_faults(found)) == []
    assert {"memfd_create", "sendfile", "fcntl", "pread64"} <= {run.call for run in found}
    [unsealed] = {run.said for run in found if (run.call, run.errno) == ("fcntl", "EPERM")}
    assert f"init: error: open: /{EMBEDDED}: memfd_create, F_ADD_SEALS: Operation" in unsealed
