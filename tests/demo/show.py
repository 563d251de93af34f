# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The boots: once as it was sealed, then with the same disk changed behind the machine's back."""

import hashlib
import json
import re
import subprocess
from pathlib import Path

from tests.demo.build import DEMO, WITNESS, Machine
from tests.demo.progress import Failed, say, show, step
from tests.demo.store import STORE
from tests.vm.disks import ext4_offset, flip_byte
from tests.vm.guest import Console, Disk, Firmware, boot

_LIMIT_SECONDS = 400
_COMPOSED = re.compile(r"^.*\b(init: root is [^\r\n]*)", re.MULTILINE)
_REFUSED = re.compile(r"^.*\b(init: refused: (\w[\w-]*): [^\r\n]*)", re.MULTILINE)
# Somewhere in the middle: what comes before is served.
_WITNESS_BLOCK = 4


def run(machine: Machine) -> None:
    """The boot that must work."""
    report = _booted(machine, machine.disk, "as-sealed")
    if report["state"] != "running":
        raise Failed(f"systemd: {report['state']}, expected running")
    _expect("default target", report["target"], r"\S+\.target active")
    _expect("root", report["mountinfo"], r"verity=require")
    _expect("a write to /usr", report["write"], r"Read-only file system")
    _expect("hostname", report["hostname"], "composefs")
    if "composefs" in report["cmdline"] or machine.image.digest in report["cmdline"]:
        raise Failed(f"a digest on the command line: {report['cmdline']}")
    record = json.loads(report["record"])
    if machine.image.digest not in json.dumps(record):
        raise Failed(f"the status record does not name the digest: {record}")
    content = machine.witness.read_bytes()
    if report["read"] != "none" or report["served"].split()[:2] != _summary(content):
        raise Failed(f"/{WITNESS}: {report['read']}, {report['served']}")


def refuse_changed_image(machine: Machine) -> None:
    """One byte of the image is another."""
    path = f"{STORE}/objects/{machine.image.object_name}"
    offset = machine.root_offset + ext4_offset(machine.box, machine.root_image, path, 0) + 100
    say(f"refusal 1: byte {offset} of the disk, in the image's first block, is changed")
    flip_byte(machine.disk, offset)
    try:
        _refused(machine, machine.disk, "changed-image")
    finally:
        flip_byte(machine.disk, offset)


def refuse_other_image(machine: Machine) -> None:
    """Another valid, sealed image has the name of the one that is expected."""
    objects = f"{STORE}/objects"
    name = f"{objects}/{machine.image.object_name}"
    other = f"{objects}/{machine.forged.object_name}"
    say("refusal 2: another sealed image has the digest's name")
    disk = machine.disk.with_name("other-image.img")
    subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", machine.disk, disk], check=True, timeout=600
    )
    for request in (f"unlink {name}", f"ln {other} {name}", f"unlink {other}"):
        machine.box.run("debugfs", "-w", "-R", request, f"{disk}?offset={machine.root_offset}")
    line = _refused(machine, disk, "other-image")
    if machine.forged.digest not in line or machine.image.digest not in line:
        raise Failed("the message does not name both digests")
    disk.unlink()


def refuse_changed_object(machine: Machine) -> None:
    """One object of the store is changed: the root boots, and that file ends in an error."""
    content = machine.witness.read_bytes()
    offset = machine.root_offset + ext4_offset(
        machine.box, machine.root_image, machine.witness_object, _WITNESS_BLOCK
    )
    say(f"refusal 3: byte {offset} of the disk, in the object of /{WITNESS}, is changed")
    flip_byte(machine.disk, offset)
    try:
        report = _booted(machine, machine.disk, "changed-object")
    finally:
        flip_byte(machine.disk, offset)
    _expect(f"reading /{WITNESS}", report["read"], "Input/output error")
    size, checksum = report["served"].split()[:2]
    if int(size) >= len(content) or _summary(content[: int(size)]) != [size, checksum]:
        raise Failed(f"wrong content was served: {report['served']}")
    say(f"  nothing wrong was served: {size} true bytes of {len(content)}, then the error")


def _boot(machine: Machine, disk: Path, name: str) -> Console:
    with step(f"boot ({name}): OVMF, UKI, init"):
        console = boot(
            machine.box, disks=[Disk(disk, discard_writes=True)], firmware=Firmware(),
            memory=1024, cpus=2, limit=_LIMIT_SECONDS, log=DEMO / f"{name}.log",
        )  # fmt: skip
    if console.timed_out:
        raise Failed(
            f"{name}: no end within {_LIMIT_SECONDS} s (its console is above)\n{console.tail}"
        )
    return console


def _booted(machine: Machine, disk: Path, name: str) -> dict[str, str]:
    console = _boot(machine, disk, name)
    if composed := _COMPOSED.search(console.text):
        show(composed.group(1))
    text = console.results.decode(errors="replace")
    show(text)
    report: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(": ")
        if separator:
            report.setdefault(key, value)
    if "end" not in report:
        raise Failed(f"{name}: the root did not report (its console is above)\n{console.tail}")
    return report


def _refused(machine: Machine, disk: Path, name: str) -> str:
    console = _boot(machine, disk, name)
    found = _REFUSED.search(console.text)
    if not found:
        raise Failed(f"{name}: no refusal (its console is above)\n{console.tail}")
    show(found.group(1))
    if console.results or "systemd[1]" in console.text:
        raise Failed(f"{name}: the root was started all the same")
    return found.group(1)


def _expect(what: str, found: str, pattern: str) -> None:
    if not re.search(pattern, found):
        raise Failed(f"{what}: {found!r}, expected {pattern!r}")


def _summary(content: bytes) -> list[str]:
    return [str(len(content)), hashlib.sha256(content).hexdigest()]
