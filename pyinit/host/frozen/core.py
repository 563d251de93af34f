# SPDX-License-Identifier: Apache-2.0 OR MIT
"""CPython's core, compiled from source: an archive of position-independent objects.

The parser, the compiler, _io and all other modules but posix and errno are not compiled. What is
left of the interpreter's own names for them has a stand-in in csrc/runtime/absent.c.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pyinit.host.frozen import flags
from pyinit.host.frozen.libc import Libc
from pyinit.host.frozen.locked import locked

ARCHIVE = "core.a"

# Those of the hardening flags that CPython's code is made for. Not -fstrict-flex-arrays: objects of
# variable size end with an array of one.
_HARDENING = (
    "-fstack-protector-strong -fstack-clash-protection -fno-delete-null-pointer-checks "
    "-fcf-protection=full|-mbranch-protection=standard"
).split()
_COMPILE = (
    # 3.11 counts on -fwrapv, and its configure adds it only where OPT is not given.
    "-Os -g0 -fPIE -ffunction-sections -fdata-sections -fno-semantic-interposition "
    "-fno-strict-aliasing -fwrapv -w"
).split()
_CONFIGURE = (
    "-q --without-doc-strings --without-pymalloc --without-mimalloc --without-dtrace "
    "--disable-ipv6 --without-ensurepip --disable-test-modules --with-readline=no LDFLAGS=-static "
    # Not known by running a program, and wrong where that is for another machine.
    "ax_cv_c_float_words_bigendian=no "
    # The program that looks says yes where the build runs at nice 19: it cannot go lower.
    "ac_cv_broken_nice=no"
).split()

# What configure finds out by running a program or by looking at this machine, for another one.
_ANSWERS = (
    "ac_cv_aligned_required=no ac_cv_computed_gotos=yes ac_cv_broken_sem_getvalue=no "
    "ac_cv_buggy_getaddrinfo=no ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no"
).split()

# Object files that no link takes (build.LEFT_OUT says what each is).
_UNUSED = (
    "Python/Python-ast.o Python/asdl.o Python/ast.o Python/ast_opt.o Python/ast_unparse.o "
    "Python/compile.o Python/frozenmain.o Python/symtable.o Python/dynload_shlib.o "
    "Python/assemble.o Python/flowgraph.o Python/optimizer.o Python/optimizer_analysis.o"
)
_MAKE = f"""\
include Makefile

WANTED := $(filter-out {_UNUSED},$(OBJECT_OBJS) $(PYTHON_OBJS)) \\
	Modules/errnomodule.o Modules/gcmodule.o Modules/posixmodule.o

{ARCHIVE}: $(WANTED)
	$(AR) rcDs $@ $^

Modules/%.o: $(srcdir)/Modules/%.c
	$(CC) -c $(PY_CORE_CFLAGS) -o $@ $<

# 3.11 takes extended attributes for glibc's alone.
Modules/posixmodule.o: CFLAGS += -DUSE_XATTRS -include linux/limits.h
"""
# What changes the objects, beside flags, compiler and libc.
_SOURCES = ("Include", "Misc", "Modules", "Objects", "Parser", "Python")
_SOURCE_FILES = ("Makefile.pre.in", "configure", "pyconfig.h.in")
_KINDS = ("*.[ch]", "*.in", "Setup*", "makesetup")
# Of another flag or compiler, which a build beside this one may be using.
_OLD_SECONDS = 24 * 3600


class CoreError(Exception):
    """CPython's source could not be compiled."""


def build(tree: Path, libc: Libc, work: Path) -> Path:
    """A directory of `work` with ARCHIVE and pyconfig.h, compiled of the source in `tree`.

    What was compiled of the same source by the same compiler is taken again. CoreError.
    """
    compile_flags = [*_COMPILE, *flags.known(libc.compiler, _HARDENING)]
    place = work / f"core-{_key(tree, libc, compile_flags)}"
    with locked(work / "lock"):
        if not (place / ARCHIVE).exists():
            partial = work / "core.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _build(tree, libc, compile_flags, partial)
            for old in work.glob("core-*"):
                if time.time() - old.stat().st_mtime > _OLD_SECONDS:
                    shutil.rmtree(old)
            partial.rename(place)
    return place


def _build(tree: Path, libc: Libc, compile_flags: list[str], place: Path) -> None:
    tree = tree.absolute()
    mapped = f"-ffile-prefix-map={tree}=cpython"
    machine = flags.triplet().replace("-gnu", "-musl")
    known = [f"--build={machine}"]
    if flags.foreign():
        known = [
            f"--build={platform.machine()}-linux-gnu",
            f"--host={machine}",
            f"--with-build-python={sys.executable}",
            f"READELF={flags.tool('readelf')}",
            *_ANSWERS,
        ]
    _run(
        [
            tree / "configure",
            *_CONFIGURE,
            *known,
            f"CC={' '.join(libc.compiler)}",
            f"CFLAGS={' '.join([*compile_flags, mapped])}",
            "OPT=-DNDEBUG",
            f"AR={flags.tool('ar')}",
        ],
        place,
    )
    (place / "core.mk").write_text(_MAKE)
    _run(["make", "-s", f"-j{os.cpu_count() or 1}", "-f", "core.mk", ARCHIVE], place)
    for path in place.iterdir():
        if path.name not in (ARCHIVE, "pyconfig.h"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _run(command: list[str | Path], place: Path) -> None:
    # A package build's own flags are meant for other programs, and make's for its own targets.
    dropped = {"CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "CPP", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    done = subprocess.run(
        command,
        cwd=place,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-20:])
        raise CoreError(f"{command[0]} in {place}: exit code {done.returncode}\n{last}")


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _key(tree: Path, libc: Libc, compile_flags: list[str]) -> str:
    summed = hashlib.sha256()
    compiler = (*libc.compiler, _output([*libc.compiler, "--version"]))
    for text in (*compile_flags, *_CONFIGURE, *_ANSWERS, _MAKE, *compiler):
        summed.update(f"{text}\n".encode())
    files = [tree / name for name in _SOURCE_FILES]
    for part in _SOURCES:
        files += sorted({path for kind in _KINDS for path in (tree / part).rglob(kind)})
    own = [Path(word) for word in (*libc.compiler, *libc.after)]  # its script, and libc itself
    for file in (*files, *(path for path in own if path.is_absolute())):
        name = file.relative_to(tree) if file.is_relative_to(tree) else file
        summed.update(f"{name}\n".encode())
        summed.update(hashlib.sha256(file.read_bytes()).digest())
    return summed.hexdigest()[:16]
