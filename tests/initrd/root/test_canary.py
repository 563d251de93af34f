# SPDX-License-Identifier: Apache-2.0 OR MIT
import _cfs
import errno
import os
import posix
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinit.initrd.report.errors import Refused, SystemFailure
from pyinit.initrd.root import canary, image

METACOPY = "trusted.overlay.metacopy"

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="trusted.* attributes need root")


@contextmanager
def descriptor(path: Path) -> Iterator[int]:
    """As fsmount() gives it."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def find(path: Path) -> str | None:
    with descriptor(path) as fd:
        return canary.find(fd)


def check(lower: Path, root: Path) -> str | None:
    with descriptor(lower) as below, descriptor(root) as above:
        return canary.check(below, above, "/sysroot")


def refusal(lower: Path, root: Path) -> Refused:
    with pytest.raises(Refused) as caught:
        check(lower, root)
    assert caught.value.step == "check"
    return caught.value


def write(root: Path, name: str, data: bytes = b"", *, in_store: bool = True) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if in_store:
        try:
            os.setxattr(path, METACOPY, b"")
        except OSError as error:
            pytest.skip(f"no trusted.* attributes here: {error}")
    return path


def test_an_image_without_content_in_the_store_has_none(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    write(tmp_path, "etc/inline", b"x", in_store=False)
    (tmp_path / "link").symlink_to("etc/inline")
    assert find(tmp_path) is None
    assert check(tmp_path, tmp_path) is None


@needs_root
def test_breadth_first_and_sorted(tmp_path: Path) -> None:
    write(tmp_path, "a/b/c/deep")
    assert find(tmp_path) == "a/b/c/deep"
    write(tmp_path, "b/y")
    assert find(tmp_path) == "b/y"
    write(tmp_path, "b/x")
    assert find(tmp_path) == "b/x"
    write(tmp_path, "a/z")
    assert find(tmp_path) == "a/z"
    write(tmp_path, "zz")
    assert find(tmp_path) == "zz"
    write(tmp_path, "aa", in_store=False)
    assert find(tmp_path) == "zz"


@needs_root
def test_only_regular_files_with_the_attribute_themselves(tmp_path: Path) -> None:
    real = write(tmp_path, "z/real")
    (tmp_path / "a-link").symlink_to("z/real")
    os.setxattr(tmp_path / "a-link", METACOPY, b"", follow_symlinks=False)
    (tmp_path / "b-directory").mkdir()
    os.setxattr(tmp_path / "b-directory", METACOPY, b"")
    os.mkfifo(tmp_path / "c-fifo")
    (tmp_path / "d-link").symlink_to("z")
    (tmp_path / "e-loop").symlink_to(".")
    os.setxattr(write(tmp_path, "f-other", in_store=False), "trusted.overlay.origin", b"")
    assert find(tmp_path) == "z/real"
    real.unlink()
    assert find(tmp_path) is None


@needs_root
def test_any_name(tmp_path: Path) -> None:
    write(tmp_path, os.fsdecode(b"\xff\n \\/\xfe"), b"content")
    assert check(tmp_path, tmp_path) == os.fsdecode(b"\xff\n \\/\xfe")


@needs_root
def test_behind_the_first_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files and of directories there may be more than are listed at once."""
    for number in range(40):
        write(tmp_path, f"file{number:02}", in_store=False)
        (tmp_path / f"d{number:02}").mkdir()
    assert find(tmp_path) is None
    write(tmp_path, "d39/z")
    assert find(tmp_path) == "d39/z"
    write(tmp_path, "d38/z")
    assert find(tmp_path) == "d38/z"
    write(tmp_path, "d07/z")
    assert find(tmp_path) == "d07/z"
    write(tmp_path, "file39")
    write(tmp_path, "file08")
    assert find(tmp_path) == "file08"
    write(tmp_path, "file07")
    monkeypatch.setattr(_cfs, "directory_names", None)
    assert find(tmp_path) == "file07"


@needs_root
def test_many_directories_are_not_listed_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is a root of many directories, where the first one has a file, listed whole."""
    for number in range(40):
        (tmp_path / f"d{number:02}").mkdir()
    write(tmp_path, "d00/z")
    monkeypatch.setattr(_cfs, "directory_names", None)
    assert find(tmp_path) == "d00/z"


# Short paths over few names, each a file in the store or not; a name that is a directory wins.
trees = st.dictionaries(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map("/".join), st.booleans()
)


@needs_root
@settings(max_examples=40)
@given(trees)
def test_the_rule_on_any_tree(tree: dict[str, bool]) -> None:
    files = {
        name: stored
        for name, stored in tree.items()
        if not any(other.startswith(name + "/") for other in tree)
    }
    # first the level, then the directories on the way, then the name
    order = sorted(
        (name for name in files if files[name]), key=lambda n: (n.count("/"), n.split("/"))
    )
    with tempfile.TemporaryDirectory() as directory:
        for name, stored in files.items():
            write(Path(directory), name, in_store=stored)
        assert find(Path(directory)) == (order[0] if order else None)


@needs_root
@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 2_500_000])
def test_read_whole_through_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    write(tmp_path, "lower/usr/file")
    write(tmp_path, "root/usr/file", os.urandom(size), in_store=False)
    read, parts = os.read, []

    def counted(fd: int, length: int) -> bytes:
        parts.append(read(fd, length))
        return parts[-1]

    monkeypatch.setattr(posix, "read", counted)
    assert check(tmp_path / "lower", tmp_path / "root") == "usr/file"
    assert b"".join(parts) == (tmp_path / "root/usr/file").read_bytes()
    assert parts[-1] == b""


@needs_root
def test_an_object_that_ends_early_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "file", b"x" * 1000)
    rest = [b"x" * 999, b""]
    monkeypatch.setattr(posix, "read", lambda fd, length: rest.pop(0))
    error = refusal(tmp_path, tmp_path)
    assert error.path == "/sysroot/file"
    assert error.found.startswith("999 of 1000 bytes (EIO)")
    assert error.expected == "readable to its end"


@needs_root
@pytest.mark.parametrize(
    ("wants", "error_number", "words"),
    [(True, errno.EPERM, True), (False, errno.EPERM, False), (True, errno.EBADMSG, False)],
)
def test_an_object_without_the_signature_that_the_kernel_wants(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wants: bool,
    error_number: int,
    words: bool,
) -> None:
    def fail(fd: int, length: int) -> bytes:
        raise OSError(error_number, os.strerror(error_number))

    write(tmp_path, "usr/file", b"x")
    monkeypatch.setattr(posix, "read", fail)
    monkeypatch.setattr(image, "wants_signatures", lambda: wants)
    error = refusal(tmp_path, tmp_path)
    assert error.path == "/sysroot/usr/file"
    assert ("signature" in error.found, "require_signatures" in error.expected) == (words, words)
    assert error.found.endswith(f"({errno.errorcode[error_number]})")


@needs_root
def test_a_changed_object_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, length: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    write(tmp_path, "usr/file", b"x")
    monkeypatch.setattr(posix, "read", fail)
    error = refusal(tmp_path, tmp_path)
    assert error.path == "/sysroot/usr/file"
    assert error.found == ("Input/output error (EIO); the object is changed or has no fs-verity")


@needs_root
def test_a_machine_that_is_short_of_memory_says_nothing_of_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, length: int) -> bytes:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    write(tmp_path, "file", b"x")
    monkeypatch.setattr(posix, "read", fail)
    with pytest.raises(SystemFailure, match="check: /sysroot/file: Cannot allocate memory"):
        check(tmp_path, tmp_path)


@needs_root
def test_a_large_file_only_where_there_is_no_other(tmp_path: Path) -> None:
    with write(tmp_path, "a").open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    assert find(tmp_path) == "a"
    with write(tmp_path, "b").open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    assert find(tmp_path) == "a"
    with write(tmp_path, "z/file").open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    assert find(tmp_path) == "z/file"


@needs_root
def test_whiteouts_cost_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(256):
        os.mknod(tmp_path / f"{number:02x}", 0o020644)
    write(tmp_path, "file", b"x")
    asked: list[str] = []
    real = posix.getxattr

    def getxattr(path: str, name: str, *, follow_symlinks: bool) -> bytes:
        asked.append(path)
        return real(path, name, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(posix, "getxattr", getxattr)
    assert find(tmp_path) == "file"
    assert len(asked) == 1


@needs_root
def test_what_is_not_in_the_root_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "lower/file", b"x")
    (tmp_path / "root").mkdir()
    found = refusal(tmp_path / "lower", tmp_path / "root").found
    assert found == "No such file or directory (ENOENT)"
    # The same image lies below both: a link can only come from elsewhere.
    (tmp_path / "root/file").symlink_to("/etc/passwd")
    assert "ELOOP" in refusal(tmp_path / "lower", tmp_path / "root").found


@pytest.mark.parametrize(
    ("module", "call"), [(posix, "open"), (_cfs, "directory_first"), (posix, "getxattr")]
)
def test_an_image_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, call: str
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    write(tmp_path, "file", b"x", in_store=False)
    monkeypatch.setattr(module, call, fail)
    error = refusal(tmp_path, tmp_path)
    assert (error.path, error.found) == ("/sysroot", "Input/output error (EIO)")


def test_directories_are_opened_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never through a link: what is listed as a directory is one."""
    (tmp_path / "below").mkdir()
    real, asked = posix.open, []

    def opened(path: str, flags: int, *, dir_fd: int) -> int:
        asked.append((path, flags))
        return real(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(posix, "open", opened)
    assert find(tmp_path) is None
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    assert asked == [(".", flags), ("below", flags)]


@needs_root
def test_no_descriptor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "file", b"x")
    before = os.listdir("/proc/self/fd")
    check(tmp_path, tmp_path)
    monkeypatch.setattr(posix, "read", lambda fd, length: b"")
    refusal(tmp_path, tmp_path)
    assert os.listdir("/proc/self/fd") == before
