# SPDX-License-Identifier: Apache-2.0 OR MIT
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.report import errors
from pyinit.initrd.report.errors import (
    STEPS,
    CfsError,
    Refused,
    Step,
    SystemFailure,
    UsageError,
    failure,
    os_error,
    printable,
)
from tests.initrd.harness import any_text, is_one_printable_line

KINDS = (Refused, UsageError, SystemFailure)


def test_exit_codes_are_those_of_mount() -> None:
    # mount(8): 1 incorrect invocation, 2 system error, 4 internal bug, 32 mount failure
    assert (errors.EXIT_OK, errors.EXIT_INTERNAL) == (0, 4)
    assert [kind.code for kind in KINDS] == [32, 1, 2]
    assert [kind.verdict for kind in KINDS] == ["refused", "error", "error"]


def test_the_line() -> None:
    error = Refused("measure", "/s/ab/cd", "sha256:00", "sha256:11")
    assert str(error) == "refused: measure: /s/ab/cd: sha256:00, expected sha256:11"
    assert (error.step, error.path, error.found, error.expected) == error.args
    assert str(UsageError("usage", "--ro", "takes no value")) == (
        "error: usage: --ro: takes no value"
    )


def test_an_unknown_step_is_a_bug() -> None:
    with pytest.raises(ValueError, match="mesure"):
        Refused("mesure", "/x", "y")


@given(st.sampled_from(KINDS), st.sampled_from(STEPS), any_text, any_text, any_text)
def test_any_error_is_one_printable_line(
    kind: type[CfsError], step: str, path: str, found: str, expected: str
) -> None:
    line = str(kind(step, path, found, expected))
    assert is_one_printable_line(line)
    assert line.startswith(f"{kind.verdict}: {step}: ")
    assert (", expected " in line) >= bool(expected)


@given(any_text)
def test_any_text_is_made_printable(text: str) -> None:
    assert is_one_printable_line(printable(text))


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E).filter(lambda c: c != "\\")))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_is_escaped() -> None:
    assert printable("a\nb\x1b[2J\x7f\x9b\udcff\u202e\0") == (
        "a\\nb\\x1b[2J\\x7f\\x9b\\udcff\\u202e\\x00"
    )


def test_os_error_says_the_kernels_words_and_the_name() -> None:
    assert os_error(OSError(errno.ENOENT, "No such file")) == "No such file (ENOENT)"
    assert os_error(OSError(12345, "odd")) == "odd (errno 12345)"


@given(st.none() | st.integers(-1, 5000), st.none() | any_text)
def test_os_error_of_any_oserror_is_a_text(number: int | None, text: str | None) -> None:
    assert is_one_printable_line(printable(os_error(OSError(number, text))))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_machine_that_is_short_of_something_is_no_refusal(number: int) -> None:
    error = failure("store", "/s", OSError(number, os.strerror(number)), "a store", "openat2")
    assert isinstance(error, SystemFailure)
    assert error.expected == ""


def test_a_call_that_is_not_there_is_named() -> None:
    error = failure("store", "/s", OSError(errno.ENOSYS, "No"), "a store", "openat2 (Linux 5.6)")
    assert str(error) == (
        "refused: store: /s: this kernel, or a seccomp filter, has no openat2 (Linux 5.6): "
        "No (ENOSYS)"
    )
    error = failure("store", "/s", OSError(errno.EPERM, "No"), "a store", "openat2 (Linux 5.6)")
    assert str(error) == "error: store: /s: openat2 (Linux 5.6): No (EPERM)"
    error = failure("store", "/s", OSError(errno.ENOTDIR, "No"), "a store", "openat2 (Linux 5.6)")
    assert str(error) == "refused: store: /s: No (ENOTDIR), expected a store"
    for number, name in ((errno.ENOSYS, "ENOSYS"), (errno.EPERM, "EPERM")):  # of no call by name
        error = failure("store", "/s", OSError(number, "No"), "a store")
        assert str(error) == f"refused: store: /s: No ({name}), expected a store"


def test_a_step_names_what_nobody_foresaw() -> None:
    bad = r"refused: check: /r: Bad \(EIO\), expected more"
    with pytest.raises(Refused, match=bad), Step("check", "/r", "more"):
        raise OSError(errno.EIO, "Bad")
    with pytest.raises(SystemFailure, match="check: /r: out of memory"), Step("check", "/r"):
        raise MemoryError
    with pytest.raises(UsageError, match="usage"), Step("check", "/r"):
        raise UsageError("usage", "--x", "unknown")
    with pytest.raises(ZeroDivisionError), Step("check", "/r"):
        raise ZeroDivisionError
    with Step("check", "/r"):
        pass
