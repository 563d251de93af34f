# SPDX-License-Identifier: Apache-2.0 OR MIT
"""confined.c: a parser that was taken over can do nothing, and its answer is not believed."""

import errno
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core import event_log, pe_builder
from tests.core.core import Core
from tests.core.event_log import replay
from tests.core.pe_builder import Section

PAYLOAD = b"cfsdig1\nrootfs=fsverity-sha256-12:" + b"0" * 64 + b"\n"
UKI = pe_builder.build([Section(b".text", b"t" * 700), Section(b".cfsdig", PAYLOAD)])

# The order of fault.c.
FAULTS = (
    "none open socket fork kill memory read-other write-other crash loop silent short too-long "
    "errno more less late zero"
).split()
FORBIDDEN = ["open", "socket", "fork", "kill", "memory", "read-other", "write-other"]
SIGSYS = 31

# <linux/audit.h>, <linux/filter.h>, <linux/seccomp.h>
ARCHITECTURES = {
    "x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3,
    "i386": 0x40000003, "arm": 0x40000028, "riscv32": 0x400000F3,
}  # fmt: skip
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW = 0x7FFF0000
X32 = 0x40000000
PREAD, WRITE, EXIT_GROUP = (17, 1, 231) if os.uname().machine == "x86_64" else (67, 64, 94)


@pytest.fixture
def uki(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "uki").write_bytes(UKI)
    fd = os.open(tmp_path / "uki", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def faulty(core: Core, tmp_path: Path) -> Iterator[Core]:
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    core.lib.fault_descriptor = other
    yield core
    core.lib.fault_parser = 0
    os.close(other)


def read(
    core: Core, fd: int, name: bytes = b".cfsdig", capacity: int = 4096, profile: int = -1
) -> tuple[bytes | int, str]:
    """(content or -errno, why)"""
    room = core.room(max(min(capacity, core.lib.CFS_CONFINED_MAX), 1))
    why = core.ffi.new("char[]", core.lib.CFS_WHY_MAX)
    length = core.lib.cfs_pe_section_read_confined(fd, name, profile, room, capacity, why)
    found = bytes(core.ffi.buffer(room, length)) if length >= 0 else int(length)
    return found, core.text(why) or ""


def test_a_section(core: Core, uki: int) -> None:
    before = os.listdir("/proc/self/fd")
    assert read(core, uki) == (PAYLOAD, "")
    assert read(core, uki, capacity=len(PAYLOAD)) == (PAYLOAD, "")
    assert read(core, uki, capacity=len(PAYLOAD) - 1) == (-errno.EMSGSIZE, "")
    assert read(core, uki, capacity=1 << 40) == (PAYLOAD, "")
    assert read(core, uki, b".other") == (-errno.ENOENT, "")
    assert read(core, uki, b"") == (-errno.EINVAL, "")
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # none is left, not even as a zombie


def test_the_broken_rule_comes_back(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"XX" + UKI[2:])
    fd = os.open(path, os.O_RDONLY)
    assert read(core, fd) == (-errno.EBADMSG, "DOS header: no MZ")
    os.close(fd)


def test_only_regular_files(core: Core, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        assert read(core, fd)[0] == -errno.EINVAL
        os.close(fd)
    assert read(core, -1)[0] == -errno.EBADF


def test_a_section_longer_than_an_answer(core: Core, tmp_path: Path) -> None:
    most = core.lib.CFS_CONFINED_MAX
    for size, expected in ((most, b"x" * most), (most + 1, -errno.EMSGSIZE)):
        path = tmp_path / str(size)
        path.write_bytes(pe_builder.build([Section(b".cfsdig", b"x" * size)]))
        fd = os.open(path, os.O_RDONLY)
        assert read(core, fd, capacity=1 << 20)[0] == expected
        os.close(fd)


@pytest.mark.parametrize("fault", FORBIDDEN)
def test_a_call_that_reading_does_not_need_kills(faulty: Core, uki: int, fault: str) -> None:
    faulty.lib.fault_parser = FAULTS.index(fault)
    found, why = read(faulty, uki)
    assert found == -errno.EPROTO
    assert why == f"the confined reader failed (wait status {SIGSYS:#x})"


def instructions(core: Core, fd: int) -> list[tuple[int, int, int, int]]:
    """Of the filter that the child would have installed: code, jumps, value."""
    reader, writer = os.pipe()
    core.lib.account_filter_to = writer
    with core.account():
        assert read(core, fd)[0] == -errno.EPERM
    os.close(writer)
    with open(reader, "rb") as pipe:
        return list(struct.iter_unpack("=HBBI", pipe.read()))


def verdict(program: list[tuple[int, int, int, int]], data: bytes) -> int:
    """What the kernel answers to a call (Documentation/networking/filter.rst)."""
    at = loaded = 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == LOAD_WORD:
            (loaded,) = struct.unpack_from("=I", data, value)
        elif code == JUMP_EQUAL:
            at += yes if loaded == value else no
        else:
            assert code == RETURN
            return value


def test_three_calls_of_one_architecture_are_allowed_and_no_other(core: Core, uki: int) -> None:
    """The numbers of another architecture, which the same kernel may serve too, are other calls:
    1 is write here and exit with i386, 231 is exit_group and fgetxattr."""
    program = instructions(core, uki)
    allowed = set()
    for architecture in ARCHITECTURES.values():
        for number in (*range(1024), *range(X32, X32 + 1024)):
            for argument in (0, 1, 2, uki, 1 << 32 | uki):
                data = struct.pack("=iIQ6Q", number, architecture, 0, argument, *[0] * 5)
                if verdict(program, data) == ALLOW:
                    allowed.add((architecture, number, argument & 0xFFFFFFFF))
    own = ARCHITECTURES[os.uname().machine]
    assert {architecture for architecture, _, _ in allowed} == {own}
    ends = {(number, argument) for _, number, argument in allowed if number != EXIT_GROUP}
    assert (PREAD, uki) in ends
    assert len(ends) <= 2  # and the pipe's, if that is one of the numbers above
    assert {number for _, number, _ in allowed} <= {PREAD, WRITE, EXIT_GROUP}
    assert (own, EXIT_GROUP, 0) in allowed


def test_an_endless_parser_is_ended(faulty: Core, uki: int) -> None:
    faulty.lib.fault_parser = FAULTS.index("loop")
    start = time.monotonic()
    assert read(faulty, uki)[0] == -errno.EPROTO
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("call", ["pipe2", "fork", "waitpid", "setrlimit", "prctl", "read"])
def test_a_call_that_fails_on_the_way(core: Core, uki: int, call: str) -> None:
    """Without a limit or the filter nothing is read."""
    with core.failing(call, errno.EDOM):
        assert read(core, uki) == (-errno.EDOM, "")
    if call == "waitpid":
        os.waitpid(-1, 0)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_answer_that_comes_in_pieces(core: Core, uki: int) -> None:
    core.lib.fault_read_most = 100
    try:
        assert read(core, uki) == (PAYLOAD, "")
        with core.failing("read", errno.EDOM, after=1):
            assert read(core, uki)[0] == -errno.EDOM
    finally:
        core.lib.fault_read_most = 0


@pytest.mark.parametrize("fault", ["crash", "silent"])
def test_a_parser_that_dies_is_no_answer(faulty: Core, uki: int, fault: str) -> None:
    faulty.lib.fault_parser = FAULTS.index(fault)
    assert read(faulty, uki)[0] == -errno.EPROTO


@pytest.mark.parametrize("fault", ["short", "too-long", "errno", "more", "less", "late"])
def test_an_impossible_answer_is_not_believed(faulty: Core, uki: int, fault: str) -> None:
    """The pipe's two ends are the first two numbers that are free."""
    faulty.lib.fault_parser = FAULTS.index(fault)
    read_end = os.dup(uki)
    write_end = os.dup(uki)
    os.close(read_end)
    os.close(write_end)
    faulty.lib.fault_descriptor = write_end
    found, why = read(faulty, uki, capacity=100)
    assert found == -errno.EPROTO
    status = "0x700" if fault == "late" else "0"
    assert why == f"the confined reader failed (wait status {status})"


# ---- a proof, by the same kind of process

EVENTS = event_log.of_boot(UKI, [(b".text", b"t" * 700)])
LOG = event_log.build(EVENTS)


def prove(
    core: Core, fd: int, log: bytes = LOG, bank: int = 0xB, profile: int = -1
) -> tuple[int, str, Any]:
    found = core.ffi.new("struct cfs_uki_proof *")
    why = core.ffi.new("char[]", core.lib.CFS_WHY_MAX)
    block = core.buffer(log)
    result = core.lib.cfs_uki_prove_confined(fd, profile, bank, block, len(log), found, why)
    return result, core.text(why) or "", found


def test_what_is_to_be_compared(core: Core, uki: int) -> None:
    before = os.listdir("/proc/self/fd")
    result, why, found = prove(core, uki)
    assert (result, why) == (0, "")
    assert bytes(found.hash)[:32] == bytes(found.image)[:32] == event_log.authenticode(UKI)
    assert bytes(found.pcr_4)[:32] == replay(EVENTS, 4)
    assert bytes(found.pcr_11)[:32] == replay(EVENTS, 11)
    assert found.has_image == 1
    assert bytes(found.payload)[: found.payload_size] == PAYLOAD
    assert core.text(found.sections) == ""
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_differs(core: Core, uki: int) -> None:
    log = event_log.build(event_log.of_boot(UKI, [(b".text", b"x")]))
    result, _, found = prove(core, uki, log)
    assert (result, core.text(found.sections)) == (0, ".text: PCR 11 has another content of it")
    _, _, found = prove(core, uki, event_log.build([]))
    assert (found.has_image, found.payload_size) == (0, len(PAYLOAD))
    assert core.text(found.sections) == "PCR 11 has no pairs of names and sections"


def test_what_cannot_be_compared(core: Core, uki: int, tmp_path: Path) -> None:
    result, why, _ = prove(core, uki, LOG[:-1])
    at = len(event_log.build(EVENTS[:-1]))
    assert (result, why) == (-errno.EBADMSG, f"event log at byte {at}: an event that is cut")
    assert prove(core, uki, bank=0x12)[:2] == (-errno.EPROTONOSUPPORT, "")
    assert prove(core, uki, b"")[:2] == (-errno.EBADMSG, "event log at byte 0: header: cut")
    assert prove(core, -1)[0] == -errno.EBADF
    path = tmp_path / "broken"
    path.write_bytes(b"XX" + UKI[2:])
    fd = os.open(path, os.O_RDONLY)
    assert prove(core, fd)[:2] == (-errno.EBADMSG, "DOS header: no MZ")
    os.close(fd)


@pytest.mark.parametrize("fault", FORBIDDEN)
def test_a_call_that_proving_does_not_need_kills(faulty: Core, uki: int, fault: str) -> None:
    faulty.lib.fault_parser = FAULTS.index(fault)
    found, why, _ = prove(faulty, uki)
    assert found == -errno.EPROTO
    assert why == f"the confined reader failed (wait status {SIGSYS:#x})"


@pytest.mark.parametrize("fault", ["short", "too-long", "errno", "more", "less", "late", "zero"])
def test_an_impossible_proof_is_none(faulty: Core, uki: int, fault: str) -> None:
    faulty.lib.fault_parser = FAULTS.index(fault)
    read_end = os.dup(uki)
    write_end = os.dup(uki)
    os.close(read_end)
    os.close(write_end)
    faulty.lib.fault_descriptor = write_end
    found, why, proof = prove(faulty, uki)
    assert found == -errno.EPROTO
    assert why.startswith("the confined reader ")
    assert not any(bytes(proof.hash))


def test_a_file_that_changes_while_it_is_read(core: Core, tmp_path: Path) -> None:
    """What is cut off then is missing."""
    path = tmp_path / "uki"
    path.write_bytes(UKI)
    fd = os.open(path, os.O_RDONLY)
    with core.failing("pread", errno.EDOM, after=0):
        assert prove(core, fd)[0] == -errno.EDOM
    os.close(fd)
