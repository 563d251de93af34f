# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A second initrd, which the UKI names beside the root: started from the store, and refused."""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write, predict
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import handed_over
from pyinit.initrd.source.payload import parse

from .cases import Case, LazyResults, run_cases
from .dracut import OLDEST, STABLE, TOML, initrd
from .guest import Console, Disk, boot, swtpm
from .initrd import (
    BOOT_MODULES,
    CONFIG,
    FILE_SYSTEM_MODULES,
    GUEST_MODULES,
    HASH_MODULES,
    boot_initrd,
    configuration,
)
from .product import cfs_init, refusal
from .rootdisk import CARRIED, RootDisk
from .second_disk import ABSENT, FORGED, SecondDisk, carried, make_second_disk, make_systemd_disk
from .systemd_root import make_systemd_root, script_disk
from .test_init import check_root, has
from .test_init_failures import ALONE, CARRY, CONFIGURE, POWERED_OFF
from .toolbox import Toolbox

NO_FILE = r"No such file or directory \(ENOENT\)"


@pytest.fixture(scope="session")
def disk(toolbox: Toolbox, rootdisk: RootDisk) -> SecondDisk:
    return make_second_disk(toolbox, rootdisk)


def _boot(
    toolbox: Toolbox, disks: list[Disk], first: bytes, *, role: str = "stable", append: str = "",
    memory: int = 512, limit: float = 120, arguments: Sequence[str] = (),
    **settings: str | bool,
) -> Console:  # fmt: skip
    """By a first initrd that carries that payload."""
    kernel = toolbox.kernel(role)
    files = {CARRIED: first, CONFIG: configuration(**{"failure": "poweroff", **settings})}
    made = boot_initrd(kernel, cfs_init(), files=files, modules=BOOT_MODULES)
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=made, append=f"root=/dev/vda {append}",
        disks=disks, memory=memory, limit=limit, arguments=arguments,
    )  # fmt: skip
    assert not console.timed_out, console.tail
    return console


def _ours(toolbox: Toolbox, disk: SecondDisk, name: str, **how: str) -> Console:
    disks = [Disk(disk.disk("ext4"), discard_writes=True)]
    console = _boot(toolbox, disks, disk.carried(name), **how)  # type: ignore[arg-type]
    digest = disk.digests[name]
    has(console, rf"init: second initrd is /composefs/images/{digest} \(sha256:{digest}\)")
    return console


# The file system is writable where the command line says so, and to both.
@pytest.mark.parametrize(("role", "word"), [("stable", "rw"), ("newest", "ro")])
def test_ours_again(toolbox: Toolbox, disk: SecondDisk, role: str, word: str) -> None:
    """It composes the root that the first one has named, and nothing of it is left behind."""
    console = _ours(toolbox, disk, "again", role=role, append=word)
    record = check_root(console, disk.digests["whole"])
    assert (record["source"], record["uki"]) == ("carried", "not compared: not booted by EFI")
    has(console, rf"/proc/self/mountinfo: .* / /sysroot ro,.* - ext4 /dev/vda {word}.*")
    # The root lies on what was there before all other mounts, and not on the second initrd.
    parent = has(console, r"/proc/self/mountinfo: \d+ (\d+) \S+ / / .*").group(1)
    proc = has(console, r"/proc/self/mountinfo: (\d+) \d+ \S+ / /proc .*").group(1)
    assert int(parent) < int(proc)


def test_one_on_another_disk(toolbox: Toolbox, disk: SecondDisk, rootdisk: RootDisk) -> None:
    """The root's has none of it."""
    disks = [Disk(each.disk("ext4"), discard_writes=True) for each in (rootdisk, disk)]
    console = _boot(
        toolbox, disks, disk.carried("again"),
        initrd_device="/dev/vdb", initrd_store="/composefs", initrd_size="10%",
    )  # fmt: skip
    check_root(console, disk.digests["whole"])
    has(console, r"/proc/self/mountinfo: .* / /sysroot ro,.* - ext4 /dev/vda .*")


def test_in_a_pcr(toolbox: Toolbox, disk: SecondDisk, tmp_path: Path) -> None:
    """The second initrd, and then the root which it composes, as `cfs-uki predict` has it."""
    with swtpm(toolbox, tmp_path / "state", tmp_path) as tpm:
        console = _boot(
            toolbox, [Disk(disk.disk("ext4"), discard_writes=True)], disk.carried("measuring"),
            arguments=tpm.arguments, measure_pcr="15", measure_required=True,
        )  # fmt: skip
    root, initrd = (Digest.parse(disk.digests[name], "a test") for name in ("whole", "measuring"))
    predicted = predict.root(15, root, "carried", ["sha256"], others={"initrd": initrd})
    assert len(predicted.events) == 2
    value = bytes(32)
    for name, event in zip(("initrd", "root"), predicted.events, strict=True):
        value = sha256(value + sha256(event.what.encode()).digest()).digest()
        record = json.loads(has(console, f"/run/cfs/{name}.json: (.*)").group(1))
        assert record["measured"]["string"] == event.what
    has(console, f"/sys/class/tpm/tpm0/pcr-sha256/15: {value.hex().upper()}")


def test_its_shell_is_verified_too(toolbox: Toolbox, disk: SecondDisk) -> None:
    """Where its configuration allows one: the rescue mode."""
    console = _ours(toolbox, disk, "rescue")
    has(console, r".*refused: store: /sysroot/nowhere: No such file.*, expected an object store")
    has(console, ".*init: /bin/sh, since the configuration says so")
    mount = f"overlay composefs:{disk.digests['rescue']} rw,.*verity=require.*"
    has(console, f"/proc/self/mountinfo: .* / / rw.* - {mount}")
    has(console, "/usr/new: writable")


NO_INIT = "refused: switch-root: /init: missing in the image"
NO_DIGEST = (
    f"refused: source: /{CARRIED}: not in this initrd, expected the file that cfs-uki seal "
    "adds to the UKI's initrd; or digest-source=first-initrd in its configuration"
)


@pytest.mark.parametrize(("name", "end"), [("empty", NO_INIT), ("deaf", NO_DIGEST)])
def test_one_that_is_none(toolbox: Toolbox, disk: SecondDisk, name: str, end: str) -> None:
    console = _ours(toolbox, disk, name)
    assert end in console.text
    has(console, ".*init: poweroff in 0 s")


# ---- refused by the first, which is PID 1 of a namespace


def _refused(name: str, step: str, path: str, found: str, expected: str, settings: str) -> Case:
    script = ALONE.format(
        prepare=CARRY.format(carried=f"/guest/carried/{name}")
        + CONFIGURE.format(configuration=f"/guest/configuration/{settings}"),
        program="cfs-init", kind="tmpfs", source="alone",
    )  # fmt: skip
    line = refusal(step, path, found, expected, program="init").removesuffix(r"\Z")
    return Case(name, script, code=POWERED_OFF, stderr=rf"{line}init: poweroff in 0 s")


def _planted(name: str, named: bool, found: str, expected: str) -> Case:
    """By whoever can write below /run of another initrd; here the root is no image at all."""
    plant = "mkdir -p /run/cfs && cp /guest/planted /run/cfs/first-initrd\n" if named else ""
    where = "/" if named else "/run/cfs/first-initrd"
    return Case(
        name,
        f"rm -f /{CARRIED}\n{plant}"
        "cfs-setup-root --sysroot /disk --config /guest/configuration/second; code=$?\n"
        "rm -rf /run/cfs; exit $code",
        code=32, stderr=refusal("source", where, found, expected, program="cfs-setup-root"),
    )  # fmt: skip


_IMAGES = "/sysroot/composefs/images"
_ABSENT = f"/sysroot/composefs/objects/{ABSENT[:2]}/{ABSENT[2:]}"
CASES = (
    _refused("absent", "open", _ABSENT, NO_FILE, f".*{ABSENT}, which is initrd in the UKI", "on"),
    _refused(
        "forged", "measure", f"{_IMAGES}/{FORGED}", "sha256:[0-9a-f]{64}", f"sha256:{FORGED}", "on"
    ),
    _refused(
        "none-is-named", "source", "carried",
        "no initrd=, and the configuration has initrd-device=/dev/vda",
        r"initrd= \(cfs-uki seal --initrd\)", "device",
    ),
    Case(
        "only-init-starts-one",
        f"cp /guest/carried/absent /{CARRIED}\n"
        "cfs-setup-root --sysroot /disk --config /guest/configuration/on",
        code=32,
        stderr=refusal(
            "source", "carried", "initrd=, a second initrd",
            "none: only init, as PID 1 of an initrd without systemd, starts one",
            program="cfs-setup-root",
        ),
    ),
    _planted("planted", True, "no composed image", "sha256:[0-9a-f]{64}, as /run/cfs/first-.*"),
    _planted("nothing-is-handed-over", False, NO_FILE, "a second initrd that init of a first .*"),
)  # fmt: skip


@pytest.fixture(scope="session")
def refusals(toolbox: Toolbox, disk: SecondDisk) -> LazyResults:
    named = parse(disk.carried("again"), "a test")
    facts = dict.fromkeys(("source", "level", "uki", "secure_boot", "command_line"), "x")
    files: dict[str, bytes | str | Path] = {
        "guest/carried/absent": disk.carried(ABSENT),
        "guest/carried/forged": disk.carried(FORGED),
        "guest/carried/none-is-named": payload_write.write(named.roots),
        "guest/configuration/on": configuration(failure="poweroff"),
        "guest/configuration/device": configuration(failure="poweroff", initrd_device="/dev/vda"),
        "guest/configuration/second": configuration(digest_source="first-initrd"),
        "guest/planted": handed_over.write(facts, named),
    }
    programs = dict.fromkeys(("usr/bin/cfs-init", "usr/bin/cfs-setup-root"), cfs_init())
    return LazyResults(
        lambda: run_cases(
            toolbox, toolbox.kernel("stable"), CASES, append="root=/dev/vda",
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            disks=[Disk(disk.disk("ext4"), discard_writes=True)],
            setup="mkdir -p /usr/lib/composefs; mount -t ext4 -o ro /dev/vda /disk",
            files={**files, **programs},
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_refused(refusals: LazyResults, name: str) -> None:
    refusals.check(name)


# ---- another one's: dracut's, with systemd

SECOND = '[digest]\nsource = "first-initrd"\n[etc]\nmount = "transient"\n'
REPORT = """
echo "state: $(systemctl is-system-running --wait)"
systemctl list-units --failed --plain --no-legend | sed 's/^/failed: /'
echo "root: $(findmnt -n -o SOURCE,OPTIONS /)"
echo "record: $(tr -d '\\n' </run/cfs/root.json)"
echo "first: $(tr -d '\\n' </run/cfs/initrd.json)"
echo "mounts: $(grep -c composefs: /proc/self/mountinfo)"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and chroot need root")
@pytest.mark.parametrize(
    ("by", "word"),
    [
        (STABLE, "rw"),
        pytest.param(STABLE, "", marks=pytest.mark.all_only),
        pytest.param(OLDEST, "rw", marks=pytest.mark.all_only),
    ],
)
def test_dracuts(toolbox: Toolbox, tmp_path: Path, by: str, word: str) -> None:
    """systemd of the second initrd mounts the root's disk, which is the one that it lies on."""
    root = make_systemd_root(toolbox)
    made = initrd(by, toolbox.kernel("stable"), {TOML: SECOND}, add=("cfs",))
    place, digest = make_systemd_disk(toolbox, root, made.file, by)
    archive = script_disk(tmp_path / "script.tar", REPORT)
    console = _boot(
        toolbox, [Disk(place, discard_writes=True), Disk(archive, read_only=True)],
        carried(root.first.digest, digest), append=word, memory=1024, limit=480,
    )  # fmt: skip
    pairs = (line.partition(": ") for line in console.results.decode().splitlines())
    found = {key: value for key, _, value in pairs}
    assert found["state"] == "running", (found, console.tail)
    assert found["root"].startswith(f"composefs:{root.first.digest} ro,")
    assert "verity=require" in found["root"]
    assert found["mounts"] == "1"
    record, first = json.loads(found["record"]), json.loads(found["first"])
    assert (record["digest"], record["source"]) == (f"sha256:{root.first.digest}", "carried")
    assert (first["digest"], first["source"]) == (f"sha256:{digest}", "carried")
