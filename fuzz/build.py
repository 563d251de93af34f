# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The harnesses in C and C++ in three builds, each of the own sources, in build/fuzz/."""

import fcntl
import os
import subprocess
from pathlib import Path

from .parsers import BUILD, HERE, ROOT, Parser

CSRC = ROOT / "csrc"
# What all harnesses are linked with: files that parse, and the calls they make.
CORE = (*sorted(CSRC.glob("parse/*.c")), *sorted(CSRC.glob("system/*.c")))

# Where a child finds the sources and the extension module.
PYTHON_PATH = f"{ROOT}:{ROOT / 'build' / 'lib'}"

# Of the engine what reads and writes images: it needs no library.
ENGINE = tuple(
    CSRC / "host" / f"{name}.cc"
    for name in ("adjust", "archive", "dump", "erofs", "layers", "report", "tar", "tree", "writer")
)

_COMMON = ("-g", "-fno-omit-frame-pointer", "-Wall", "-Wextra", f"-I{CSRC}")
_SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def fuzzer(parser: Parser) -> Path:
    """With libFuzzer, by clang."""
    extra = [HERE / "c" / name for name in parser.extra]
    flags = ("-O1", "-fsanitize=fuzzer", *_SANITIZE)
    return _build(parser, "fuzz", "clang", flags, extra)


def replayer(parser: Parser) -> Path:
    """Without libFuzzer, by gcc, with its sanitizers."""
    return _build(parser, "replay", "gcc", ("-O1", *_SANITIZE), [HERE / "c" / "replay.c"])


def counter(parser: Parser) -> Path:
    """Counts which lines and branches run; LLVM_PROFILE_FILE says where to."""
    flags = ("-O0", "-fprofile-instr-generate", "-fcoverage-mapping")
    return _build(parser, "count", "clang", flags, [HERE / "c" / "replay.c"])


_CXX = {"gcc": "g++", "clang": "clang++"}


def _build(
    parser: Parser, kind: str, compiler: str, flags: tuple[str, ...], extra: list[Path]
) -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    name = f"{kind}-{parser.name}"
    target = BUILD / name
    if parser.is_cxx:
        compiler, flags = _CXX[compiler], ("-std=c++20", *flags, "-x", "c++")
        more = [CSRC / "host" / f"{name}.cc" for name in parser.engine]
        sources = [HERE / "c" / f"{parser.name}.cc", *extra, *ENGINE, *more]
    else:
        flags = ("-std=gnu17", *flags)
        sources = [HERE / "c" / f"{parser.name}.c", *extra, *CORE]
    inputs = [*sources, *CSRC.rglob("*.h"), HERE / "c" / "fuzz.h", Path(__file__)]
    with (BUILD / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(path.stat().st_mtime_ns for path in inputs)
        if not target.exists() or target.stat().st_mtime_ns < newest:
            new = target.with_suffix(".new")
            libraries = [f"-l{name}" for name in parser.libraries]
            command = (compiler, *_COMMON, *flags, *sources, "-o", new, *libraries)
            run(*map(str, command))
            new.rename(target)
    return target


def run(*command: str, limit: float = 300, **environment: str) -> str:
    """Its stdout. RuntimeError with the end of its stderr: it failed."""
    # Tests may run under a sanitizer themselves, which is not meant for these.
    inherited = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(
        command, capture_output=True, timeout=limit, check=False, env=inherited | environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-4000:]
        raise RuntimeError(f"{Path(command[0]).name}: exit {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")
