# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Within a cell, in a copy of the repository: makes changes and runs tests, as stdin says.

A line of stdin is a JSON object: path, source (the changed file, None: as it is), tests, and the
limits in seconds, cpu (of the processor) and wall. A line of stdout answers it:
{"noticed": bool, "how": str, "cpu": float, "wall": float}.

The tests run in a forked child of this process, which has the slow imports done. For changes of C
this process runs under AddressSanitizer, as the tests of the core do: see tests/core/conftest.py.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_OPTIONS = (
    "-x", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist",
    "-p", "no:faulthandler", "-W", "ignore::pytest.PytestAssertRewriteWarning",
    "--hypothesis-profile=mutants",
)  # fmt: skip
# Exit codes of pytest: failed tests, and a source that cannot even be imported.
_NOTICED = {1: "a test failed", 2: "not importable", 3: "pytest broke", 4: "not importable"}
# And what a process that ends by itself, in the midst of the tests, does not exit with.
_TO_THE_END = 100
_CLONE_NEWNS = 0x20000
_MEMORY = 8 << 30
_FILE = 1 << 30


def _limit(cpu: float) -> None:
    # Of the processor: what goes round ends by SIGXCPU however busy the machine is.
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu), math.ceil(cpu) + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not hasattr(ctypes.CDLL(None), "__asan_init"):  # it reserves more than there is
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _own_mounts() -> None:
    """A changed program has unmounted /dev/null, and all after it failed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def _child(tests: list[str], cpu: float, log: int) -> None:
    """Never returns."""
    code = 70
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _limit(cpu)
        _own_mounts()
        import pytest

        code = _TO_THE_END + int(pytest.main([*_OPTIONS, *tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(tests: list[str], cpu: float, wall: float, log: Path) -> tuple[bool, str]:
    """(a test has noticed, how)"""
    with log.open("wb") as stream:
        child = os.fork()
        if child == 0:
            _child(tests, cpu, stream.fileno())
    # What waits for ever uses no processor. On a busy machine others wait as well.
    deadline = time.monotonic() + wall
    wait = 0.005
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                return True, f"ended by signal {-code}"
            if code < _TO_THE_END:
                return True, f"exit {code} before the end"
            code -= _TO_THE_END
            if code == 0:
                return False, ""
            if code == 5:
                raise RuntimeError(f"no test in {tests}")
            return True, _NOTICED.get(code, f"exit {code}")
        time.sleep(wait)
        wait = min(wait * 1.5, 0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True, f"not ended after {wall:.0f} s"


def _used() -> float:
    """Seconds of the processor, of the children that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    path = Path(order["path"])
    before = path.read_bytes()
    start, used = time.monotonic(), _used()
    try:
        if order["source"] is not None:
            path.write_bytes(order["source"].encode())
        noticed, how = _run(order["tests"], order["cpu"], order["wall"], Path("tmp/log"))
    finally:
        path.write_bytes(before)
    answer: dict[str, Any] = {
        "noticed": noticed, "how": how, "cpu": _used() - used, "wall": time.monotonic() - start,
    }  # fmt: skip
    if noticed and order["source"] is None:
        answer["log"] = Path("tmp/log").read_text(errors="replace")[-3000:]
    return answer


def main() -> None:
    """Until stdin ends."""
    sys.dont_write_bytecode = True  # the time of a file says too little of its content
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    import hypothesis
    import pytest

    assert hypothesis
    assert pytest
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
