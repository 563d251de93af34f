# SPDX-License-Identifier: Apache-2.0 OR MIT
"""extension/ without memory: each allocation of a call fails in its turn."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.core import event_log, pe_builder
from tests.core.core import Core
from tests.core.pe_builder import Section
from tests.host.store.written import directory, image, stored

UKI = pe_builder.build([Section(b".text", b"t" * 700), Section(b".cfsdig", b"payload")])
MANY = 120


def outcome(function: Callable[..., object], arguments: tuple[object, ...]) -> object:
    try:
        return function(*arguments)
    except OSError as error:
        return error.args


def each_allocation_fails(
    cfs: ModuleType, function: Callable[..., object], *arguments: object
) -> None:
    """Such a call ends with MemoryError, or as it does with memory."""
    call = ctypes.PyDLL(cfs.__file__ or "").cfs_test_call
    call.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.c_uint64, ctypes.c_void_p]
    call.restype = ctypes.py_object
    made = ctypes.c_uint64()
    usual = outcome(function, arguments)
    failed = 0
    for number in range(1, MANY):
        try:
            found = outcome(call, (function, arguments, number, ctypes.addressof(made)))
        except MemoryError:
            failed += 1
        else:
            assert found == usual
        if made.value < number:
            break
    else:
        raise AssertionError("does it ever end?")
    assert failed > 1


# The interpreter's own way out of half a module.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_module(cfs: ModuleType) -> None:
    start = ctypes.PyDLL(cfs.__file__ or "").PyInit__cfs
    start.restype = ctypes.py_object
    each_allocation_fails(cfs, lambda: type(start()))


def test_a_message(cfs: ModuleType) -> None:
    each_allocation_fails(cfs, cfs.image_open, -1, "no" * 300)
    each_allocation_fails(cfs, cfs.pe_find, UKI, ".none", -1)


def test_headers(cfs: ModuleType) -> None:
    each_allocation_fails(cfs, cfs.pe_parse, UKI)


def test_a_section(cfs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "uki").write_bytes(UKI)
    fd = os.open(tmp_path / "uki", os.O_RDONLY)
    each_allocation_fails(cfs, cfs.pe_section_read, fd, ".cfsdig", -1, 100)
    each_allocation_fails(cfs, cfs.uki_prove, fd, -1, 0xB, event_log.build([]))
    os.close(fd)


def test_the_name_of_an_image(cfs: ModuleType, tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    store = (directory, directory, cfs.LAYOUT_OBJECTS)
    each_allocation_fails(cfs, cfs.store_open_image, store, (cfs.SHA256, bytes(32)))
    os.close(directory)


def test_the_canary_of_an_image(cfs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(image(directory((b"\xff\n", stored("0a" * 32)))))
    fd = os.open(tmp_path / "image", os.O_RDONLY)
    assert cfs.image_canary(fd) == os.fsdecode(b"\xff\n")
    each_allocation_fails(cfs, cfs.image_canary, fd)
    os.close(fd)


@pytest.mark.parametrize("options", [[("a", None)], [("a", "b"), ("c", None), ("d", "e")] * 8])
def test_options(cfs: ModuleType, cfs_core: Core, options: list[Any]) -> None:
    """The list of their words grows within a key and within a value."""

    def mount() -> None:
        os.close(cfs.fs_mount("x", options, 0))

    with cfs_core.account():
        each_allocation_fails(cfs, mount)
