# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The digest in user space: known answers, and the tool that the kernel's authors wrote."""

import _cfs
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinit.host.store import fsverity
from pyinit.host.store.fsverity import BLOCK_SIZE, digest_blocks, digest_of
from pyinit.initrd.kernel import mountinfo
from tests.vm.toolbox import Toolbox


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"hello world", "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64"),
        (b"hello world\n", "37061ef2ac4c21bec68489b56138c5780306a4ad7fe6676236ecdf2c9027cd92"),
        (b"foo bar baz\n", "91e7d88cb7bc9cf6d8db3b0ecf89af4abf204bef5b3ade5113d5b62ef374e70b"),
        (b"", "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"),
    ],
)
def test_known_answers(data: bytes, expected: str) -> None:
    assert digest_blocks(iter([data]), _cfs.SHA256).hex == expected


@pytest.fixture(scope="module")
def toolbox() -> Toolbox:
    box = Toolbox()
    box.command("fsverity")
    return box


# Around one block, and around where a tree gets another level (128 sha256 or 64 sha512 hashes).
EDGES = [1, BLOCK_SIZE, 64 * BLOCK_SIZE, 128 * BLOCK_SIZE, 128 * 128 * BLOCK_SIZE]
SIZES = st.builds(
    lambda edge, offset: max(0, edge + offset),
    st.sampled_from(EDGES[:-1]),
    st.integers(-2, 2) | st.integers(-2 * BLOCK_SIZE, 2 * BLOCK_SIZE),
)


@settings(max_examples=30, deadline=None)
@given(size=SIZES, fill=st.binary(min_size=1, max_size=99), name=st.sampled_from(["256", "512"]))
def test_same_as_the_tool(
    size: int, fill: bytes, name: str, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(tmp_path_factory.getbasetemp() / "data", size, fill, name, toolbox)


def test_same_as_the_tool_with_three_levels(toolbox: Toolbox, tmp_path: Path) -> None:
    check(tmp_path / "data", EDGES[-1] + 1, b"three levels", "256", toolbox)


def check(path: Path, size: int, fill: bytes, name: str, toolbox: Toolbox) -> None:
    path.write_bytes((fill * (size // len(fill) + 1))[:size])
    shown = toolbox.run("fsverity", "digest", "--compact", f"--hash-alg=sha{name}", path)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.lseek(fd, 7, os.SEEK_SET)  # it must not matter
        digest = digest_of(fd, _cfs.SHA256 if name == "256" else _cfs.SHA512)
    finally:
        os.close(fd)
    assert digest.hex == shown.strip()


def test_short_reads_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 40
    path = tmp_path / "data"
    path.write_bytes(data)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 1000), at))
    with path.open("rb") as file:
        assert digest_of(file.fileno(), _cfs.SHA256) == digest_blocks(iter([data]), _cfs.SHA256)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(b"hello world")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


def fail(number: int) -> object:
    def call(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EROFS])
def test_sealed_before_is_measured(fd: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (_cfs.SHA256, bytes(32))
    monkeypatch.setattr(_cfs, "verity_enable", fail(number))
    monkeypatch.setattr(_cfs, "verity_measure", lambda fd: pair)
    digest, new = fsverity.seal(fd, _cfs.SHA256)
    assert (digest.pair, new) == (pair, False)


@pytest.mark.parametrize("number", [errno.ETXTBSY, errno.EROFS, errno.ENOTTY])
def test_why_it_was_not_sealed_is_kept(
    fd: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cfs, "verity_enable", fail(number))
    monkeypatch.setattr(_cfs, "verity_measure", fail(errno.ENODATA))
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        fsverity.seal(fd, _cfs.SHA256)
    assert caught.value.errno == number
    assert errno.errorcode[number] in fsverity.reason(caught.value, Path("/dev/fd") / str(fd))


NONE = "no fs-verity on this file system or kernel"


@pytest.mark.parametrize(
    ("number", "fstype", "block", "words"),
    [
        (errno.EINVAL, "ext4", 1024, "blocks of 1024 bytes, and fs-verity needs 4096: mkfs.ext4"),
        (errno.EINVAL, "ext4", 4096, "Invalid argument (EINVAL)"),
        (errno.EPERM, "ext4", 4096, "it cannot be changed: chattr -i -a"),
        (errno.ENOSPC, "ext4", 4096, "no space for its hashes"),
        (errno.EDQUOT, "ext4", 4096, "no quota for its hashes"),
        (errno.ENOTTY, "ext4", 4096, f"{NONE} (ext4: tune2fs -O verity /dev/vda)"),
        (errno.EOPNOTSUPP, "btrfs", 4096, f"{NONE} (btrfs: this kernel was built without"),
        (errno.EOPNOTSUPP, "xfs", 4096, f"{NONE} (xfs: put the store on an ext4 with -O verity"),
        (errno.ENOTTY, None, 4096, f"{NONE} (ext4: tune2fs -O verity)"),
    ],
)  # fmt: skip
def test_each_cause_has_words_of_its_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    fstype: str | None,
    block: int,
    words: str,
) -> None:
    line = f"36 1 8:1 / / rw - {fstype} /dev/vda rw".encode()
    for name in ("ext4/features/verity", "btrfs/features/acl", "xfs/features/none"):
        (tmp_path / "sys" / name).mkdir(parents=True)
    monkeypatch.setattr(fsverity, "_SYS_FS", tmp_path / "sys")
    monkeypatch.setattr(mountinfo, "of", lambda _: mountinfo.Mount(line) if fstype else None)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bsize=block))
    said = fsverity.reason(OSError(number, os.strerror(number)), tmp_path)
    assert said.startswith(words)
    assert said.endswith(f"({errno.errorcode[number]})")


def test_a_file_that_is_gone_has_the_words_of_the_kernel(tmp_path: Path) -> None:
    error = OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
    assert fsverity.reason(error, tmp_path / "gone") == f"{error.strerror} (ENOTTY)"


def test_a_broken_measurement_is_no_missing_one(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cfs, "verity_measure", fail(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        fsverity.measured(fd)
