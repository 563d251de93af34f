# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Compiles and links build/cfs-init with the distribution's compiler and static libpython."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyinit.host.frozen import elf, flags, sources, table

NAME = "cfs-init"

COMPILE = ["-std=gnu17", "-Os", "-g1", "-fPIE", "-ffunction-sections", "-fdata-sections"]
LINK = (
    "-Wl,--gc-sections -Wl,-O1 -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now -Wl,-z,separate-code "
    "-Wl,-z,pack-relative-relocs -Wl,--build-id=none -Wl,--no-eh-frame-hdr"
).split()

# Object files of libpython that csrc/runtime/absent.c keeps out. They are what an accident (a new
# call in a patch release, a new built-in module) would bring back.
LEFT_OUT = frozenset(
    "config.o frozen.o deepfreeze.o getpath.o faulthandler.o compile.o symtable.o pegen.o "
    "parser.o peg_api.o tokenizer.o Python-ast.o ast.o ast_opt.o _iomodule.o fileio.o "
    "bufferedio.o textio.o signalmodule.o timemodule.o main.o frozenmain.o".split()
)


class BuildError(Exception):
    """A build that cannot be done here, or whose product breaks a rule."""


FAILURES = (BuildError, sources.FreezeError, elf.ElfError, subprocess.CalledProcessError, OSError)
"""What `main` raises where it fails and the text says all."""

# By ID or ID_LIKE of os-release: what has the header files and the static library.
_PACKAGES = {
    "debian": "libpython3-dev",
    "fedora": "python3-devel",
    "rhel": "python3-devel",
    "suse": "python3-devel",
    "arch": "python",
    "alpine": "python3-dev",
}


def build(
    root: Path,
    out: Path,
    replace: dict[str, Path] | None = None,
    extra: Iterable[Path] = (),
) -> Path:
    """Builds `out`/cfs-init and the unstripped cfs-init.debug; gives the former's path.

    `root` is the source tree; `replace` as in sources.collect(); `extra` are C files below `root`
    for a test's build, and what they define is in no other. BuildError, sources.FreezeError,
    elf.ElfError or CalledProcessError where it fails.
    """
    library = _library()
    work = out / "frozen"
    work.mkdir(parents=True, exist_ok=True)
    generated = work / "table.c"
    generated.write_text(table.render(table.compile_sources(sources.collect(root, replace))))

    files = [
        *(
            source
            for room in ("parse", "system", "extension", "runtime")
            for source in sorted((root / "csrc" / room).glob("*.c"))
        ),
        *extra,
        generated,
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        objects = list(pool.map(lambda file: _compile(root, work, file), files))

    debug = out / f"{NAME}.debug"
    link_map = work / "link.map"
    _run(
        [
            *flags.compiler(),
            "-static-pie",
            *flags.linking(LINK),
            f"-Wl,-T,{root / 'csrc' / 'runtime' / 'no-unwind.ld'}",
            f"-Wl,-Map={link_map}",
            "-o",
            debug,
            *objects,
            library,
            "-lm",
        ],
        # libc.a warns of every call that would look users up: frozen code makes none.
        quiet=True,
    )
    _check_map(link_map)
    stripped = out / NAME
    partial = out / f".{NAME}.partial"
    _run([flags.tool("strip"), "--strip-all", "-R", ".comment", "-o", partial, debug])
    elf.check(partial, forbidden=[f"{root}/"])
    partial.replace(stripped)
    return stripped


def _library() -> Path:
    """The archive whose objects are position-independent, of the interpreter that runs this."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = Path(sysconfig.get_config_var("LIBPL")) / f"libpython{version}-pic.a"
    if not path.exists():
        raise BuildError(
            f"{path} is missing: install {_package()}, and run this with the distribution's own "
            "/usr/bin/python3"
        )
    return path


def _package() -> str:
    """What to install for libpython, in the words of this distribution."""
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        about = {}
    for name in (about.get("ID", ""), *about.get("ID_LIKE", "").split()):
        package = _PACKAGES.get(name)
        if package == _PACKAGES["debian"]:
            return package
        if package is not None:
            return f"{package} (if it has this archive: Debian has, not all have)"
    return "the package with the static, position-independent libpython (Debian: libpython3-dev)"


def _compile(root: Path, work: Path, source: Path) -> Path:
    target = work / (source.name if source.parent == work else str(source.relative_to(root)))
    target = target.with_suffix(".o")
    target.parent.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{root / 'csrc'}", "-isystem", sysconfig.get_path("include")]
    prefix = [f"-ffile-prefix-map={root}=.", f"-ffile-prefix-map={work}=frozen"]
    limited = ["-DPy_LIMITED_API=0x030B0000"] if source.parent.name == "extension" else []
    _run(
        [
            *flags.compiler(),
            *COMPILE,
            *flags.hardening(),
            *prefix,
            *includes,
            *limited,
            "-c",
            source,
            "-o",
            target,
        ]
    )
    return target


def _run(command: list[str | Path], quiet: bool = False) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode or not quiet:
        sys.stderr.write(done.stderr)
    done.check_returncode()


def _check_map(link_map: Path) -> None:
    """The link map's first part names each object file taken from an archive, and for what."""
    taken = link_map.read_text().partition("\nDiscarded input sections")[0]
    back = sorted(name for name in LEFT_OUT if f"({name})" in taken)
    if back:
        raise BuildError(f"{link_map}: {', '.join(back)} came back; see csrc/runtime/absent.c")


def main(root: Path) -> None:
    """Builds below `root`/build and says what came out."""
    path = build(root, root / "build")
    size = path.stat().st_size
    line = f"{path.relative_to(root)}: {size:,} bytes"
    if shutil.which("zstd"):
        packed = subprocess.run(["zstd", "-19", "-q", "-c", path], capture_output=True, check=True)
        line += f", zstd -19: {len(packed.stdout):,}"
    sys.stdout.write(line + "\n")
