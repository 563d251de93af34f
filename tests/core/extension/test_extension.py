# SPDX-License-Identifier: Apache-2.0 OR MIT
"""extension/: arguments, results and errors. What the functions do is tested at the core."""

import ast
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import event_log, pe_builder
from tests.core.build import CSRC
from tests.core.core import Core
from tests.core.pe_builder import Section
from tests.host.store.written import directory, image, stored

AT_FDCWD = -100
VALUE = bytes(range(0xA0, 0xC0))
HEX = VALUE.hex()
UKI = pe_builder.build([Section(b".text", b"t" * 700), Section(b".cfsdig", b"payload")])


def _stub() -> ast.Module:
    return ast.parse((CSRC / "extension" / "_cfs.pyi").read_text())


FUNCTIONS = {
    node.name: len(node.args.posonlyargs) + len(node.args.args)
    for node in _stub().body
    if isinstance(node, ast.FunctionDef)
}
CONSTANTS = {
    node.target.id
    for node in _stub().body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}


def test_the_stub_is_the_module(cfs: ModuleType) -> None:
    public = {name for name in vars(cfs) if not name.startswith("_")}
    assert public == CONSTANTS | set(FUNCTIONS)
    assert all(type(getattr(cfs, name)) is int for name in CONSTANTS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_number_of_arguments(cfs: ModuleType, name: str) -> None:
    function = getattr(cfs, name)
    with pytest.raises(TypeError):
        function(*[None] * (FUNCTIONS[name] + 1))
    if FUNCTIONS[name]:
        with pytest.raises(TypeError):
            function(*[None] * (FUNCTIONS[name] - 1))


@pytest.mark.parametrize("name", [name for name, count in FUNCTIONS.items() if count])
def test_wrong_types(cfs: ModuleType, cfs_core: Core, name: str) -> None:
    """They do not come to the core."""
    with cfs_core.account(0, errno.ENOENT) as said:
        cfs_core.lib.account_no_stat = 1
        with pytest.raises(TypeError):
            getattr(cfs, name)(*[object()] * FUNCTIONS[name])
    assert said == []


@pytest.mark.parametrize(
    "call",
    [
        lambda cfs: cfs.verity_measure(-1),
        lambda cfs: cfs.verity_enable(-1, 1, 4096),
        lambda cfs: cfs.pe_parse(-1),
        lambda cfs: cfs.pe_find(-1, ".text", -1),
        lambda cfs: cfs.pe_section_read(-1, ".text", -1, 100),
        lambda cfs: cfs.uki_prove(-1, -1, 0xB, b"log"),
        lambda cfs: cfs.image_header(-1),
        lambda cfs: cfs.store_open(-1, "x"),
        lambda cfs: cfs.store_open_image((-1, -1, 1), (1, VALUE)),
        lambda cfs: cfs.image_open(-1, "x"),
        lambda cfs: cfs.image_canary(-1),
        lambda cfs: cfs.mount_attach(-1, -1),
        lambda cfs: cfs.mount_clone(-1, False),
        lambda cfs: cfs.mount_clone_locked(-1),
        lambda cfs: cfs.mount_set(-1, 1, 0, False),
        lambda cfs: cfs.initramfs_empty(-1),
    ],
)
def test_errno_becomes_oserror(cfs: ModuleType, call: Callable[[Any], object]) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        call(cfs)
    # EPERM: without privileges the kernel does not even look at the descriptor
    assert caught.value.errno in {errno.EBADF, errno.EPERM}
    assert caught.value.strerror == os.strerror(caught.value.errno)


def test_oserror_is_of_the_fitting_class(cfs: ModuleType) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cfs.store_open(AT_FDCWD, "/nowhere")
    assert (caught.value.filename, caught.value.errno) == ("/nowhere", errno.ENOENT)


def test_the_canary_of_an_image(cfs: ModuleType, tmp_path: Path) -> None:
    """A name of any bytes; none; and the rule that an image breaks."""
    contents = directory((b"\xff\n", stored("0a" * 32))), directory()
    found = []
    for content in contents:
        (tmp_path / "image").write_bytes(image(content))
        with (tmp_path / "image").open("rb") as file:
            found.append(cfs.image_canary(file.fileno()))
    assert found == [os.fsdecode(b"\xff\n"), None]
    (tmp_path / "image").write_bytes(bytes(4096))
    with (tmp_path / "image").open("rb") as file, pytest.raises(OSError) as caught:  # noqa: PT011
        cfs.image_canary(file.fileno())
    assert (caught.value.errno, caught.value.strerror) == (errno.EBADMSG, "no EROFS magic")


# ---- digests


@given(value=st.binary(min_size=32, max_size=32) | st.binary(min_size=64, max_size=64))
def test_digest(cfs: ModuleType, value: bytes) -> None:
    digest = cfs.digest_parse(value.hex().encode())
    assert digest == (cfs.SHA256 if len(value) == 32 else cfs.SHA512, value)
    assert cfs.digest_format(digest) == value.hex()
    assert cfs.digest_equal(digest, digest)
    assert not cfs.digest_equal(digest, (digest[0], value[:-1] + bytes([value[-1] ^ 1])))


@pytest.mark.parametrize("digest", [(0, b""), (1, b""), (1, bytes(64)), (2, bytes(65)), (9, VALUE)])
def test_no_digest(cfs: ModuleType, digest: tuple[int, bytes]) -> None:
    assert cfs.digest_equal(digest, digest) is False
    with pytest.raises(OSError, match="Invalid argument"):
        cfs.digest_format(digest)


@pytest.mark.parametrize("algorithm", [-1, 65536, 65537, 1 << 64])
def test_numbers_are_never_cut(cfs: ModuleType, algorithm: int) -> None:
    """65537 is not 1."""
    with pytest.raises(OverflowError):
        cfs.digest_format((algorithm, VALUE))
    with pytest.raises(OverflowError):
        cfs.verity_enable(-1, algorithm, 4096)
    with pytest.raises(OverflowError):
        cfs.verity_enable(-1, 1, (1 << 32) + 4096)
    with pytest.raises(OverflowError):
        cfs.mount_set(-1, 1 << 64, 0, False)
    with pytest.raises(OverflowError):
        cfs.pe_parse(1 << 40)


def test_text_of_a_digest(cfs: ModuleType) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        cfs.digest_parse(HEX.upper().encode())
    assert caught.value.errno == errno.EILSEQ


# ---- PE


def test_pe(cfs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "uki").write_bytes(UKI)
    fd = os.open(tmp_path / "uki", os.O_RDONLY)
    try:
        headers, sections = cfs.pe_parse(fd)
        assert (headers, sections) == cfs.pe_parse(UKI)
        assert cfs.pe_section_read(fd, ".cfsdig", cfs.PE_BASE, 7) == b"payload"
        with pytest.raises(OSError, match="Message too long") as caught:
            cfs.pe_section_read(fd, ".cfsdig", cfs.PE_BASE, 6)
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(OSError, match="Message too long"):
            cfs.pe_section_read(fd, ".cfsdig", cfs.PE_BASE, -1)
        with pytest.raises(FileNotFoundError):
            cfs.pe_section_read(fd, ".cfsdig", 0, 6)
        assert cfs.pe_section_read(fd, ".cfsdig", cfs.PE_BASE, sys.maxsize) == b"payload"
    finally:
        os.close(fd)
    assert cfs.pe_find(UKI, ".cfsdig", cfs.PE_BASE) == 1
    assert [section[0] for section in sections] == [b".text\0\0\0", b".cfsdig\0"]
    assert sections[1][1:5] == (7, 0x2000, 512, 512 + 1024)
    assert (headers["file_size"], headers["section_count"]) == (len(UKI), 2)
    # Each field of struct cfs_pe, and no other.
    struct_text = (CSRC / "cfs.h").read_text().split("struct cfs_pe {")[1].split("};")[0]
    fields = {line.split(";")[0].split()[-1] for line in struct_text.splitlines() if ";" in line}
    assert set(headers) == fields - {"sections[CFS_PE_SECTIONS_MAX]"}


def test_a_proof(cfs: ModuleType, tmp_path: Path) -> None:
    events = event_log.of_boot(UKI, [(b".linux", b"x")], (4, 0xB, 0xC))
    log = event_log.build(events, (4, 0xB, 0xC))
    (tmp_path / "uki").write_bytes(UKI)
    plain = pe_builder.build([Section(b".text", b"t")])
    (tmp_path / "plain").write_bytes(plain)
    with (tmp_path / "uki").open("rb") as uki, (tmp_path / "plain").open("rb") as other:
        for name, bank in (("sha256", 0xB), ("sha384", 0xC)):
            values = [event_log.replay(events, pcr, name) for pcr in (4, 11)]
            found = cfs.uki_prove(uki.fileno(), cfs.PE_BASE, bank, log)
            assert list(found[:2]) == values
            assert found[2] == event_log.authenticode(UKI, name)
            assert found[4:] == ("PCR 11 has a section that is not there", b"payload")
        found = cfs.uki_prove(other.fileno(), cfs.PE_BASE, 0xB, event_log.build([]))
        assert found[:2] == (bytes(32), bytes(32))
        assert found[2:4] == (event_log.authenticode(plain), None)
        assert found[5] is None
        with pytest.raises(OSError, match="event log at byte 0: header: cut") as caught:
            cfs.uki_prove(uki.fileno(), cfs.PE_BASE, 0xB, b"")
        assert caught.value.errno == errno.EBADMSG
        with pytest.raises(OSError, match="Protocol not supported"):
            cfs.uki_prove(uki.fileno(), cfs.PE_BASE, 0x12, log)


def test_pe_error_names_the_rule(cfs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "uki").write_bytes(b"X" + UKI[1:])
    with (tmp_path / "uki").open("rb") as file:
        fd = file.fileno()
        with pytest.raises(OSError, match="DOS header: no MZ"):
            cfs.pe_parse(fd)
        with pytest.raises(OSError, match="DOS header: no MZ"):
            cfs.pe_section_read(fd, ".cfsdig", cfs.PE_BASE, 100)
    with pytest.raises(OSError, match="DOS header: no MZ") as caught:
        cfs.pe_parse(b"X" + UKI[1:])
    assert caught.value.errno == errno.EBADMSG
    empty = pe_builder.with_section(UKI, 1, VirtualSize=0)
    with pytest.raises(OSError, match="VirtualSize is 0") as caught:
        cfs.pe_find(empty, ".cfsdig", -1)
    assert caught.value.filename == ".cfsdig"


def test_pe_section_name_with_nul(cfs: ModuleType) -> None:
    with pytest.raises(ValueError, match="null"):
        cfs.pe_find(UKI, ".cfsdig\0x", -1)


# ---- image and store


def test_image_header(cfs: ModuleType, tmp_path: Path) -> None:
    data = bytearray(1152)
    struct.pack_into("<IIII", data, 0, 0xD078629A, 1, 1, 2)
    struct.pack_into("<I", data, 1024, 0xE0F5E1E2)
    data[1024 + 12] = 12
    struct.pack_into("<I", data, 1024 + 36, 3)
    (tmp_path / "image").write_bytes(data)
    fd = os.open(tmp_path / "image", os.O_RDONLY)
    try:
        assert cfs.image_header(fd) == (True, 2, True, 0xE0F5E1E2, 3 * 4096)
    finally:
        os.close(fd)


def test_store(cfs: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "st\udcffore"  # a name that is not UTF-8
    (root / HEX[:2]).mkdir(parents=True)
    store = cfs.store_open(AT_FDCWD, str(root))
    assert store[2] == cfs.LAYOUT_OBJECTS
    try:
        with pytest.raises(FileNotFoundError) as caught:
            cfs.store_open_image(store, (1, VALUE))
        assert caught.value.filename == f"{HEX[:2]}/{HEX[2:]}"
        (root / HEX[:2] / HEX[2:]).write_bytes(b"image")
        fd, name = cfs.store_open_image(store, (1, VALUE))
        assert os.read(fd, 10) == b"image"
        assert name == f"{HEX[:2]}/{HEX[2:]}"
        os.close(fd)
    finally:
        os.close(store[0])
        os.close(store[1])
    fd = cfs.image_open(AT_FDCWD, f"{root}/{name}")
    os.close(fd)
    with pytest.raises(OSError, match="Invalid argument") as invalid:
        cfs.image_open(AT_FDCWD, str(root))
    assert invalid.value.filename == str(root)


@pytest.mark.parametrize(
    "call",
    [
        lambda cfs, path: cfs.store_open(AT_FDCWD, path),
        lambda cfs, path: cfs.image_open(AT_FDCWD, path),
        lambda cfs, path: cfs.open_beneath(-1, path, 0),
        lambda cfs, path: cfs.switch_root(path, False),
        lambda cfs, path: cfs.mount_move(path, "/no/b"),
        lambda cfs, path: cfs.mount_move("/no/a", path),
        lambda cfs, path: cfs.ask(path, b""),
    ],
)
def test_path_that_is_none(
    cfs: ModuleType, cfs_core: Core, call: Callable[[Any, Any], object]
) -> None:
    with cfs_core.account() as said:
        with pytest.raises(ValueError, match="null"):
            call(cfs, "a\0b")
        with pytest.raises(TypeError):
            call(cfs, 1)
    assert said == []


def test_a_question(cfs: ModuleType, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with pytest.raises(FileNotFoundError) as caught:
        cfs.ask(path, b"who\0")
    assert caught.value.filename == path
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        fd = cfs.ask(path, b"who\0")
        with server.accept()[0] as theirs:
            assert theirs.recv(100) == b"who\0"
        os.close(fd)


def test_no_reference_is_lost(cfs: ModuleType) -> None:
    path = f"/nowhere/{HEX}"
    before = sys.getrefcount(path)
    for _ in range(10):
        for function in (cfs.store_open, cfs.image_open):
            with pytest.raises(FileNotFoundError):
                function(AT_FDCWD, path)
        with pytest.raises(OSError):  # noqa: PT011
            cfs.pe_section_read(-1, path, -1, 0)
    assert sys.getrefcount(path) == before


# ---- mounts: as far as nothing gets mounted


def test_unknown_file_system(cfs: ModuleType) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        cfs.fs_mount("nosuchfs", [("source", "x"), ("ro", None)], 0)
    assert caught.value.errno in {errno.ENODEV, errno.EPERM}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([("a", None)] * 65, ValueError),
        ([("a",)], TypeError),
        (["ab"], TypeError),
        ([(None, "x")], TypeError),
        ([("a", 1)], TypeError),
        ([("a\0b", None)], ValueError),
        ([("a", "b\0c")], ValueError),
        ((), TypeError),
    ],
)
def test_options(cfs: ModuleType, options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        cfs.fs_mount("nosuchfs", options, 0)


def test_erofs_and_overlay_of_nothing(cfs: ModuleType) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        cfs.erofs_mount(-1, True, False)
    with pytest.raises(OSError):  # noqa: PT011
        cfs.overlay_mount("composefs:x", -1, -1, -1, -1, True, 0)


def test_mount_detach(cfs: ModuleType, tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_PATH | os.O_CLOEXEC)  # inside a mount, not its root
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            cfs.mount_detach(directory)
    finally:
        os.close(directory)
    assert caught.value.errno in {errno.EINVAL, errno.EPERM}


def test_this_is_no_initramfs(cfs: ModuleType) -> None:
    assert cfs.root_is_initramfs() is False
