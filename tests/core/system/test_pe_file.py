# SPDX-License-Identifier: Apache-2.0 OR MIT
"""pe_file.c: a UKI on disk, of which only what is asked for is read."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.core import pe_builder
from tests.core.core import Core
from tests.core.pe_builder import Section, with_section
from tests.vm import kernels
from tests.vm.toolbox import Toolbox

PAYLOAD = b"cfsdig1\nrootfs=fsverity-sha256-12:" + b"0" * 64 + b"\n"
SMALL = pe_builder.build([Section(b".text", b"t" * 700), Section(b".cfsdig", PAYLOAD)])


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _bytes_read() -> int:
    """By this process, in all its read calls."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _read_section(core: Core, fd: int, name: bytes, capacity: int) -> bytes | int:
    result, pe, _ = core.pe_parse_fd(fd)
    if result < 0:
        return result
    index, _ = core.pe_find(pe, name)
    assert index >= 0
    room = core.room(capacity)
    length = core.lib.cfs_pe_section_read_fd(fd, pe, index, room, capacity)
    return bytes(core.ffi.buffer(room, length)) if length >= 0 else int(length)


def test_a_section(core: Core, tmp_path: Path) -> None:
    (tmp_path / "uki").write_bytes(SMALL)
    with _opened(tmp_path / "uki") as fd:
        assert _read_section(core, fd, b".cfsdig", len(PAYLOAD)) == PAYLOAD
        assert _read_section(core, fd, b".cfsdig", len(PAYLOAD) - 1) == -errno.EMSGSIZE


def test_a_uki_of_128_mb_costs_little(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "uki"
    start = 128 << 20
    with path.open("wb") as file:
        file.write(with_section(SMALL, 1, PointerToRawData=start))
        file.seek(start)
        file.write(PAYLOAD.ljust(512, b"\0"))
    with _opened(path) as fd:
        before = _bytes_read()
        found = _read_section(core, fd, b".cfsdig", 4096)
        cost = _bytes_read() - before
    assert found == PAYLOAD
    assert cost <= 64 << 10
    assert cost <= 16 << 10  # what it is; the other is what was promised


def test_no_regular_file(core: Core, tmp_path: Path) -> None:
    with _opened(tmp_path) as fd:
        assert core.pe_parse_fd(fd)[0] == -errno.EINVAL
    with _opened(Path("/dev/zero")) as fd:
        assert core.pe_parse_fd(fd)[0] == -errno.EINVAL
    assert core.pe_parse_fd(-1)[0] == -errno.EBADF


def test_a_file_that_got_shorter(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "uki"
    path.write_bytes(SMALL)
    with _opened(path) as fd:
        result, pe, _ = core.pe_parse_fd(fd)
        assert result == 0
        os.truncate(path, len(SMALL) - 500)
        room = core.room(4096)
        read = core.lib.cfs_pe_section_read_fd
        assert read(fd, pe, 1, room, 4096) == -errno.ENODATA


def test_no_section_of_that_index(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "uki"
    path.write_bytes(with_section(SMALL, 0, VirtualSize=0))
    with _opened(path) as fd:
        _, pe, _ = core.pe_parse_fd(fd)
        room = core.room(16)
        read = core.lib.cfs_pe_section_read_fd
        assert read(fd, pe, 2, room, 16) == -errno.EINVAL
        assert read(fd, pe, 2**32 - 1, room, 16) == -errno.EINVAL
        assert read(fd, pe, 0, room, 16) == -errno.EBADMSG
        pe.sections[1].virtual_size = 513
        assert read(fd, pe, 1, room, 16) == -errno.EBADMSG


def test_the_stub_of_systemd(core: Core) -> None:
    path = Toolbox().path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
    with _opened(path) as fd:
        text = _read_section(core, fd, b".sdmagic", 200)
    assert isinstance(text, bytes)
    assert text.startswith(b"#### LoaderInfo: systemd-stub 2")


@pytest.mark.parametrize("role", kernels.ROLES)
def test_a_kernel_of_debian(core: Core, role: str) -> None:
    """Signed, with its certificates at the end."""
    with _opened(Toolbox().kernel(role).vmlinuz) as fd:
        result, pe, why = core.pe_parse_fd(fd)
        assert (result, why) == (0, None)
        assert pe.certificate_size > 0
        assert core.pe_find(pe, b".text")[0] >= 0
