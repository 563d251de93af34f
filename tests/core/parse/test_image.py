# SPDX-License-Identifier: Apache-2.0 OR MIT
import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.core import Core
from tests.vm.toolbox import Toolbox

SIZE = 1152
COMPOSEFS = 0xD078629A
EROFS = 0xE0F5E1E2


def header(
    *,
    composefs: int = COMPOSEFS,
    version: int = 1,
    flags: int = 0,
    form: int = 0,
    erofs: int = EROFS,
    block_bits: int = 12,
    blocks: int = 4,
) -> bytes:
    data = bytearray(SIZE)
    struct.pack_into("<IIII", data, 0, composefs, version, flags, form)
    struct.pack_into("<I", data, 1024, erofs)
    data[1024 + 12] = block_bits
    struct.pack_into("<I", data, 1024 + 36, blocks)
    return bytes(data)


def parse(core: Core, data: bytes) -> tuple[int, Any]:
    out = core.ffi.new("struct cfs_image_header *")
    return core.lib.cfs_image_header_parse(core.buffer(data), len(data), out), out


def read(core: Core, path: Path) -> tuple[int, Any]:
    out = core.ffi.new("struct cfs_image_header *")
    fd = os.open(path, os.O_RDONLY)
    try:
        return core.lib.cfs_image_header_read(fd, out), out
    finally:
        os.close(fd)


@pytest.mark.parametrize(("flags", "acl"), [(0, False), (1, True), (2, False), (3, True)])
def test_composefs(core: Core, flags: int, acl: bool) -> None:
    result, out = parse(core, header(flags=flags, form=2, blocks=0xFFFFFFFF))
    assert result == 0
    assert (out.composefs, out.composefs_version, out.has_acl) == (True, 2, acl)
    assert (out.erofs_magic, out.size) == (EROFS, 0xFFFFFFFF << 12)


def test_plain_erofs_may_have_acls(core: Core) -> None:
    result, out = parse(core, header(composefs=0, form=7))
    assert result == 0
    assert (out.composefs, out.composefs_version, out.has_acl) == (False, 0, True)


@pytest.mark.parametrize("version", [0, 2, 0xFFFFFFFF])
def test_unknown_version(core: Core, version: int) -> None:
    assert parse(core, header(version=version))[0] == -errno.EPROTONOSUPPORT


def test_no_erofs(core: Core) -> None:
    result, out = parse(core, header(erofs=0x12345678))
    assert result == -errno.EBADMSG
    assert out.erofs_magic == 0x12345678


@pytest.mark.parametrize(
    ("bits", "good"), [(0, False), (8, False), (9, True), (16, True), (17, False), (255, False)]
)
def test_block_size(core: Core, bits: int, good: bool) -> None:
    result, out = parse(core, header(block_bits=bits))
    assert result == (0 if good else -errno.EBADMSG)
    assert out.size == (4 << bits if good else 0)


@given(data=st.binary(max_size=1300))
def test_any_bytes(core: Core, data: bytes) -> None:
    result, _ = parse(core, data)
    if len(data) < SIZE:
        assert result == -errno.EMSGSIZE


@pytest.mark.parametrize("size", [0, 1, 1024, SIZE - 1])
def test_short(core: Core, tmp_path: Path, size: int) -> None:
    assert parse(core, header()[:size])[0] == -errno.EMSGSIZE
    (tmp_path / "image").write_bytes(header()[:size])
    assert read(core, tmp_path / "image")[0] == -errno.EMSGSIZE


def test_what_cannot_be_read(core: Core) -> None:
    out = core.ffi.new("struct cfs_image_header *")
    assert core.lib.cfs_image_header_read(-1, out) == -errno.EBADF


def test_what_mkcomposefs_writes(core: Core, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * 10000)
    image = tmp_path / "image"
    Toolbox().run("mkcomposefs", "--skip-xattrs", tree, image)
    result, out = read(core, image)
    assert result == 0
    assert (out.composefs, out.has_acl) == (True, False)
    assert out.size == image.stat().st_size
