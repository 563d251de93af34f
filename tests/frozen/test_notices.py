# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The notices beside the executable are those of the source that it is built of."""

from pathlib import Path

import pytest

from pyinit.host.frozen import build, interpreter, notices


def a_tree(place: Path) -> tuple[Path, Path]:
    for name in ("Objects", "Python"):
        (place / name).mkdir(parents=True)
    (place / "LICENSE").write_text("PSF\n")
    (place / "Python/dtoa.c").write_text(
        "/* Copyright Gay. Permission is granted. */\nint a; /* Copyright, and no more */\n"
    )
    (place / "Objects/o.c").write_text("/* Redistribution in binary form, Copyright Own */\n")
    (place / "musl").write_text("MIT\n")
    return place, place / "musl"


def test_of_the_source_all_that_is_a_licence(tmp_path: Path) -> None:
    said = notices.of_source(*a_tree(tmp_path))
    _, *parts = said.split("#### ")
    assert parts == [
        "CPython\n\nPSF\n\n",
        "CPython, Objects/o.c\n\n/* Redistribution in binary form, Copyright Own */\n\n",
        "CPython, Python/dtoa.c\n\n/* Copyright Gay. Permission is granted. */\n\n",
        "musl\n\nMIT\n",
    ]


@pytest.mark.parametrize("name", ["LICENSE", "musl"])
def test_a_source_without_its_notice_is_refused(name: str, tmp_path: Path) -> None:
    tree, musl = a_tree(tmp_path)
    (tree / name).unlink()
    with pytest.raises(notices.NoticesError, match=f"a notice is missing: .*{name}"):
        notices.of_source(tree, musl)


def test_they_lie_beside_what_was_built(executable: Path, kind: str) -> None:
    said = executable.with_name(build.NOTICES).read_text()
    if kind == interpreter.DISTRIBUTION:
        assert "its packages of libpython and of the C library" in said
        return
    for text in (
        "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2",
        "#### CPython, Python/dtoa.c",
        "Copyright (c) 1991, 2000, 2001 by Lucent Technologies",
        "Copyright (c) 2013  Marek Majkowski",
        "Copyright © 2005-2020 Rich Felker",
    ):
        assert text in said, text
