# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The C core and the extension module as shared objects under ASan and UBSan, in build/test/."""

import fcntl
import hashlib
import os
import re
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "test"
CSRC = ROOT / "csrc"
HERE = Path(__file__).resolve().parent
CORE = [*sorted(CSRC.glob("parse/*.c")), *sorted(CSRC.glob("system/*.c"))]
IN_FRONT = [HERE / "fault.c", HERE / "account.c"]
ALLOCATION = ROOT / "tests" / "vm" / "faults" / "allocation.c"
_WRAPPED = re.compile(r"^(?:WRAP\(|LIBC\(|int __wrap_)(\w+)[,(].*", re.MULTILINE)

CC = os.environ.get("CC", "gcc")
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = [
    "-std=c17", "-O1", "-g", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Wconversion",
    "-Werror", "-fPIC", f"-I{CSRC}", *SANITIZE,
]  # fmt: skip


def runtime() -> str:
    """The shared libasan of the compiler, for LD_PRELOAD, and libstdc++: libasan looks once, at its
    start, for what C++ throws by, and `_cfshost` throws."""
    names = ("libasan.so", "libstdc++.so.6")
    return " ".join(_run(CC, f"-print-file-name={name}").strip() for name in names)


def core() -> Path:
    """libcfs.so: the core, and fault.c and account.c in front of its system calls."""
    return _build("libcfs.so", [*CORE, *IN_FRONT], hooks())


def extension() -> Path:
    """_cfs.abi3.so: the same, and allocations that can fail."""
    include = f"-I{sysconfig.get_path('include')}"
    sources = [*CORE, *IN_FRONT, ALLOCATION, *sorted((CSRC / "extension").glob("*.c"))]
    return _build("_cfs.abi3.so", sources, hooks(), (include,))


def declarations() -> str:
    """cfs.h as cffi wants it: without comments, directives and the system's own headers."""
    lines = (CSRC / "cfs.h").read_text().splitlines()
    source = "\n".join(line for line in lines if not line.startswith("#include"))
    return _run(CC, "-E", "-P", "-", text=source)


def hooks() -> list[str]:
    """For the linker: what stands in front of the core (IN_FRONT) is called in its place."""
    wrapped = {name for path in IN_FRONT for name in _WRAPPED.findall(path.read_text())}
    return [f"-Wl,--wrap={name}" for name in sorted(wrapped)]


def _build(name: str, sources: list[Path], link: list[str], include: tuple[str, ...] = ()) -> Path:
    """`name`, linked of an object for each source. They are kept by their content: one changed
    source is one compilation."""
    flags = [*FLAGS, *include, *os.environ.get("CFLAGS", "").split()]
    objects = BUILD / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    target = BUILD / name
    headers = b"".join(path.read_bytes() for path in sorted(CSRC.rglob("*.h")))
    common = hashlib.sha256(repr((CC, flags)).encode() + headers)
    with (BUILD / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = [_object(objects, common, flags, source) for source in sources]
        key = repr((CC, flags, link, [path.name for path in made]))
        stamp = target.with_suffix(".key")
        if not (target.exists() and stamp.exists() and stamp.read_text() == key):
            new = target.with_suffix(".new")
            _run(CC, *flags, "-shared", *link, *map(str, made), "-o", str(new))
            stamp.unlink(missing_ok=True)
            new.rename(target)
            stamp.write_text(key)
    return target


def _object(directory: Path, common: "hashlib._Hash", flags: list[str], source: Path) -> Path:
    content = common.copy()
    content.update(str(source).encode() + source.read_bytes())
    path = directory / f"{source.stem}-{content.hexdigest()[:16]}.o"
    if not path.exists():
        new = directory / f"{path.name}.{os.getpid()}"
        _run(CC, *flags, "-c", str(source), "-o", str(new))
        new.rename(path)
    return path


def _run(*command: str, text: str | None = None) -> str:
    # Sanitizers are for the code under test, not for the compiler.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=600, env=environment,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr[-4000:]}")
    return done.stdout
