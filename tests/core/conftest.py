# SPDX-License-Identifier: Apache-2.0 OR MIT
"""pytest itself runs with libasan preloaded, so that the core's own memory errors are seen.

cffi calls the core in ABI mode: the declarations are those of csrc/cfs.h, and there is no glue.
"""

import ctypes
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from . import build
from .core import Core

ADDR_NO_RANDOMIZE = 0x0040000


def pytest_configure(config: pytest.Config) -> None:
    """Starts pytest again under libasan; that process goes on without it in the environment, so
    that programs which tests start (compilers, virtual machines) run as they are."""
    if hasattr(ctypes.CDLL(None), "__asan_init"):
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    # gcc 12's runtime finds no place for its shadow in some of the layouts that kernels randomize
    # by 32 bits.
    ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
    os.environ |= {
        "LD_PRELOAD": build.runtime(),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # each object a block of its own, with red zones
    }
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if hasattr(ctypes.CDLL(None), "__asan_init"):
    for _name in ("LD_PRELOAD", "PYTHONMALLOC"):
        os.environ.pop(_name, None)


@pytest.fixture(scope="session")
def core() -> Core:
    return Core(build.core())


@pytest.fixture(scope="session")
def cfs_core(cfs: ModuleType) -> Core:
    """The core within the extension module."""
    return Core(Path(cfs.__file__ or ""))


@pytest.fixture(scope="session")
def cfs() -> ModuleType:
    """The extension module, built with sanitizers; not the installed one."""
    path = str(build.extension())
    loader = importlib.machinery.ExtensionFileLoader("_cfs", path)
    spec = importlib.util.spec_from_file_location("_cfs", path, loader=loader)
    assert spec is not None
    # A module of this kind (single-phase) enters itself as `_cfs`; what else is tested in this
    # process has to stay with the installed one.
    installed = sys.modules.get("_cfs")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    if installed is not None:
        sys.modules["_cfs"] = installed
    else:
        sys.modules.pop("_cfs", None)
    return module


@pytest.fixture(autouse=True)
def no_fd_left() -> Iterator[None]:
    """Each test leaves as many descriptors open as it found."""
    before = _open_fds()
    yield
    assert _open_fds() == before


def _open_fds() -> dict[str, Any]:
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            fds[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of listdir
            continue
    return fds
