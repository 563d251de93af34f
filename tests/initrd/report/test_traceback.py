# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The traceback of the frozen executable, against the standard library's."""

import traceback

import pytest

from pyinit.initrd.report.traceback import format_exception


class Multi(Exception):
    pass


def fail(kind: str) -> None:
    try:
        int("x")
    except ValueError as error:
        if kind == "cause":
            raise Multi("second") from error
        if kind == "context":
            raise Multi("second")  # noqa: B904
        if kind == "hidden":
            raise Multi("second") from None
        raise


@pytest.mark.parametrize("kind", ["cause", "context", "hidden", "plain"])
def test_it_says_what_the_standard_library_says(kind: str) -> None:
    """Frame by frame, less the lines of source, which an initrd does not hold."""
    with pytest.raises((Multi, ValueError)) as raised:
        fail(kind)
    own = format_exception(raised.value)
    theirs = "".join(traceback.format_exception(raised.value)).splitlines()
    theirs = [line for line in theirs if not line.startswith("    ")]
    # Theirs names the module of an exception class.
    assert own == [line.replace(f"{__name__}.Multi", "Multi") for line in theirs]


def test_a_chain_without_end_ends() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 100):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    lines = format_exception(error)
    assert lines[-1] == "ValueError: 99"
    assert len([line for line in lines if line.startswith("ValueError")]) == 16


def test_nothing_of_it_can_drive_a_terminal() -> None:
    (line,) = format_exception(ValueError("a\nb\x1b[2J\udcff\u2028"))
    assert line == "ValueError: a\\nb\\x1b[2J\\udcff\\u2028"
    assert line.isascii()
