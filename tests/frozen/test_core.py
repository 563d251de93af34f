# SPDX-License-Identifier: Apache-2.0 OR MIT
"""CPython's core: when it is compiled anew, and what is said where it cannot be."""

from pathlib import Path

import pytest

from pyinit.host.frozen import core, libc


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    for name in core._SOURCES:
        (place / name).mkdir(parents=True)
    for name in core._SOURCE_FILES:
        (place / name).write_text("#!/bin/sh\necho no luck today\nexit 3\n")
        (place / name).chmod(0o755)
    return place


def test_a_failure_says_its_last_lines(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(core.CoreError, match=r"configure in .*: exit code 3\nno luck today"):
        core.build(tree, libc.glibc(), tmp_path)
    assert not list(tmp_path.glob("core-*"))


def test_it_is_compiled_anew_where_something_changed(tree: Path, tmp_path: Path) -> None:
    keys = {core._key(tree, libc.glibc(), ["-Os"])}
    assert core._key(tree, libc.glibc(), ["-Os"]) in keys
    keys.add(core._key(tree, libc.glibc(), ["-O2"]))
    (tree / "Objects/object.c").write_text("int a;")
    keys.add(core._key(tree, libc.glibc(), ["-Os"]))
    (tree / "Objects/object.c").write_text("int b;")
    keys.add(core._key(tree, libc.glibc(), ["-Os"]))
    (tree / "Objects/object.c").rename(tree / "Python/object.c")
    keys.add(core._key(tree, libc.glibc(), ["-Os"]))
    (tree / "Modules/Setup").write_text("posix")
    keys.add(core._key(tree, libc.glibc(), ["-Os"]))
    keys.add(core._key(tree, libc.musl(tmp_path), ["-Os"]))
    assert len(keys) == 7


def test_signed_numbers_wrap() -> None:
    """3.11 tests for overflow after it happened: without the flag, gcc leaves the test out."""
    assert "-fwrapv" in core._COMPILE
