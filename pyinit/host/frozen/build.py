# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Compiles and links build/cfs-init: our C, the interpreter, a C library, and the snapshot."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyinit.host.frozen import (
    elf,
    flags,
    foreign,
    image,
    interpreter,
    named,
    notices,
    relink,
    snapshot,
    source,
    sources,
    table,
)

NAME = "cfs-init"
NOTICES = f"{NAME}.notices"

COMPILE = ["-std=gnu17", "-Os", "-g1", "-fPIE", "-ffunction-sections"]
# They relocate, at each start; start.c before there is a stack protector.
FAST = {"snapshot.c": ["-O2"], "start.c": ["-O2", "-fno-stack-protector"]}
LINK = (
    "-Wl,--gc-sections -Wl,-O1 -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now -Wl,-z,separate-code "
    "-Wl,-z,pack-relative-relocs -Wl,--build-id=none -Wl,--no-eh-frame-hdr"
).split()

# Hashes of addresses and texts, by the interpreter's names: csrc/runtime/hash.c has our own.
HASHES = ("_Py_HashPointer", "Py_HashPointer", "PyObject_GenericHash", "_Py_HashBytes")

# By ours: hash.c, strerror.c and absent.c.
WRAPPED = (*HASHES, "strerror", "PyErr_Print", "PyErr_Display", "log")

# Where libc's variables are, and what of the interpreter may be there: variables of threads, which
# snapshot.c sets (pystate.o), or which are unset while nothing is imported or allocated.
_NOT_OURS = frozenset({".data", ".bss", ".lbss", ".tdata", ".tbss", ".init_array", ".fini_array"})
_THREAD_VARIABLES = frozenset({"pystate.o", "import.o", "obmalloc.o"})
_INPUT = re.compile(
    r"^ *(?:\S+ +)?0x[0-9a-f]+ +0x([0-9a-f]+) \S*?(?:interpreter\.a\(|/frozen/.*?)([\w.-]+\.o)\)?$"
)

# Object files of libpython that csrc/runtime/absent.c keeps out. They are what an accident (a new
# call in a patch release, a new built-in module) would bring back.
LEFT_OUT = frozenset(
    "config.o frozen.o deepfreeze.o getpath.o faulthandler.o compile.o symtable.o pegen.o "
    "parser.o peg_api.o tokenizer.o Python-ast.o ast.o ast_opt.o _iomodule.o fileio.o "
    "bufferedio.o textio.o signalmodule.o timemodule.o main.o frozenmain.o".split()
)


class BuildError(Exception):
    """A build that cannot be done here, or whose product breaks a rule."""


FAILURES = (
    BuildError,
    *interpreter.FAILURES,
    notices.NoticesError,
    sources.FreezeError,
    snapshot.SnapshotError,
    image.ImageError,
    relink.RelinkError,
    elf.ElfError,
    subprocess.CalledProcessError,
    OSError,
)
"""What `main` raises where it fails and the text says all."""


def build(
    root: Path,
    out: Path,
    *,
    replace: dict[str, Path] | None = None,
    extra: Iterable[Path] = (),
    wrap: Iterable[str] = (),
    kind: str | None = None,
) -> Path:
    """Builds `out`/cfs-init, with its notices and the unstripped cfs-init.debug; gives its path.

    `root` is the source tree; `replace` as in sources.collect(); `extra` are C files below `root`
    for a test's build, and what they define is in no other: for NAME of `wrap`, __wrap_NAME() in
    place of NAME(). `kind` is one of interpreter.KINDS; without it that of INTERPRETER in the
    environment, or that from source. One of FAILURES where it fails.
    """
    kind = kind or os.environ.get("INTERPRETER") or interpreter.SOURCE
    python = interpreter.interpreter(kind, root / "build" / "interpreter")
    work = out.absolute() / "frozen"  # window.ld knows our object files by it
    work.mkdir(parents=True, exist_ok=True)
    if python.tree:
        said = notices.of_source(python.tree, root / "packaging" / "musl.notice")
    else:
        said = notices.of_distribution()
    (out / NOTICES).write_text(said, "utf-8")
    archive = work / "interpreter.a"
    _run([flags.tool("objcopy"), *interpreter.renaming(python.archive, archive)])
    files = [
        *(
            source
            for room in ("parse", "system", "extension", "runtime")
            for source in sorted((root / "csrc" / room).glob("*.c"))
        ),
        *extra,
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        objects = list(pool.map(lambda file: _compile(root, work, python, file), files))
    generated = work / "table.c"
    generated.write_text(_table(sources.collect(root, replace), [*objects, archive], python))
    objects.append(_compile(root, work, python, generated))

    first = work / f"{NAME}.first"
    scripts = root / "csrc" / "runtime"
    link_map = work / "first.map"
    options = [f"-Wl,-T,{scripts / 'no-unwind.ld'}"]
    options += [f"-Wl,--wrap={name}" for name in (*WRAPPED, *wrap)]
    window = f"-Wl,-T,{scripts / 'window.ld'}"
    _link(python, [*objects, archive], [*options, window], first, link_map)
    _check_map(link_map)
    raw, places = _raw(first, work)
    taken = snapshot.take(raw, image.targets(raw, places))

    links = relink.Links(relink.inputs(link_map, work), first, taken)
    again = work / "second"
    script, texts = again / "second.ld", again / "second.c"
    again.mkdir(exist_ok=True)
    script.write_text(links.script())
    texts.write_text(links.source())
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        seconds = list(pool.map(lambda file: _forget(file, work, again), [*objects, archive]))
    seconds.insert(0, _compile(root, again, python, texts))
    debug = out / f"{NAME}.debug"
    link_map = work / "link.map"
    options += [f"-Wl,-T,{script}", f"-Wl,--wrap={relink.TAKE}"]
    _link(python, seconds, options, debug, link_map)
    _check_map(link_map)
    raw, places = _raw(debug, work)
    taken = links.moved(relink.inputs(link_map, again), debug)
    stripped = out / NAME
    partial = out / f".{NAME}.partial"
    image.write(raw, partial, places, taken)
    elf.check(partial, forbidden=[f"{root}/"], machine=flags.triplet().partition("-")[0])
    partial.replace(stripped)
    return stripped


def _table(
    modules: list[sources.Source], objects: Sequence[Path], python: interpreter.Interpreter
) -> str:
    needed = sources.needed(map(sources.parse, modules))
    compiled = table.compile_sources(modules)
    frozen = {name for _, data, _ in compiled for name in named.of_code(data)}
    in_c = set(named.of_objects(objects))
    if python.tree:
        in_c -= named.only_said(python.tree)
    kept = frozen.union(named.of_interpreter(python.includes), in_c)
    return table.render(compiled, needed, sorted(kept - {""}), sorted(frozen - {""}))


def _link(
    python: interpreter.Interpreter,
    objects: Sequence[Path],
    options: Sequence[str],
    out: Path,
    link_map: Path,
) -> None:
    _run(
        [
            *python.libc.before,
            "-static-pie",
            *flags.linking(LINK),
            *options,
            f"-Wl,-Map={link_map}",
            "-o",
            out,
            *objects,
            *python.libc.after,
        ],
        shown=_without_users,
    )


# libc.a warns of every call that would look users up: frozen code makes none. (GNU ld, gold, lld)
_LOOKS_UP = re.compile(
    r"(?:.*: in function [`'][^\n]*:\n)?.*: warning: Using '\w+' in statically linked applications "
    r"requires at runtime .*\n?"
)


def _without_users(said: str) -> str:
    return _LOOKS_UP.sub("", said)


def _raw(debug: Path, work: Path) -> tuple[Path, image.Places]:
    """The file as it is stripped, without texts for help()."""
    raw = work / f"{debug.stem}.raw"
    _run([flags.tool("strip"), "--strip-all", "-R", ".comment", "-o", raw, debug])
    places = image.Places.of(debug)
    image.forget_documentation(raw, places)
    return raw, places


def _forget(file: Path, work: Path, again: Path) -> Path:
    """A copy of the object file or archive, without the relocations of the window's variables."""
    target = again / file.relative_to(work)
    target.parent.mkdir(parents=True, exist_ok=True)
    _run([flags.tool("objcopy"), *relink.FORGET, file, target])
    return target


def _compile(root: Path, work: Path, python: interpreter.Interpreter, source: Path) -> Path:
    target = work / (source.name if source.parent == work else str(source.relative_to(root)))
    target = target.with_suffix(".o")
    target.parent.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{root / 'csrc'}"]
    prefix = [f"-ffile-prefix-map={root}=.", f"-ffile-prefix-map={work}=frozen"]
    for directory in python.includes:  # of the prefixes that fit, the last one counts
        includes += ["-isystem", str(directory)]
        prefix.append(f"-ffile-prefix-map={directory}=python")
    limited = ["-DPy_LIMITED_API=0x030B0000"] if source.parent.name == "extension" else []
    _run(
        [
            *python.libc.compiler,
            *COMPILE,
            *flags.hardening(),
            *FAST.get(source.name, []),
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


def _run(command: list[str | Path], shown: Callable[[str], str] = str) -> None:
    """`shown`: what of its messages is shown, if it does not fail."""
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr if done.returncode else shown(done.stderr))
    done.check_returncode()


def _check_map(link_map: Path) -> None:
    """The link map's first part names each object file taken from an archive, and for what."""
    taken = link_map.read_text().partition("\nDiscarded input sections")[0]
    back = sorted(name for name in LEFT_OUT if f"({name})" in taken)
    if back:
        raise BuildError(f"{link_map}: {', '.join(back)} came back; see csrc/runtime/absent.c")
    if astray := sorted(_astray(link_map.read_text())):
        raise BuildError(f"{link_map}: outside of the window: {', '.join(astray)}; see window.ld")


def _astray(text: str) -> Iterable[str]:
    """Variables of the interpreter or of ours that the snapshot would miss."""
    output = ""
    for line in text.partition("\nLinker script and memory map")[2].splitlines():
        if line[:1].strip():
            output = line.split()[0]
        elif output in _NOT_OURS and (found := _INPUT.search(line)):
            size, file = int(found[1], 16), found[2]
            thread = output in {".tdata", ".tbss"} and file in _THREAD_VARIABLES
            if size and not thread:
                yield f"{file} ({output})"


def main(
    root: Path, kind: str | None = None, target: str | None = None, out: str | None = None
) -> None:
    """Builds below `root`/build and says what came out; `kind` as in build().

    `target` is a processor, as uname(2) names it, and may be another one than this machine's. It
    is built below `root`/build/`target`. `out` is another directory.
    """
    if target and "CC" not in os.environ and target != platform.machine():
        os.environ["CC"] = foreign.compiler(target)
    found = flags.triplet()
    if target and found.partition("-")[0] != target:
        raise BuildError(f"CC compiles for {found}, and --target is {target}: unset CC")
    place = Path(out) if out else root / "build" / (target or "")
    path = build(root, place, kind=kind)
    size = path.stat().st_size
    line = f"{path.relative_to(root) if path.is_relative_to(root) else path}: {size:,} bytes"
    if shutil.which("zstd"):
        packed = subprocess.run(["zstd", "-19", "-q", "-c", path], capture_output=True, check=True)
        line += f", zstd -19: {len(packed.stdout):,}"
    sys.stdout.write(line + "\n")


def check_source(root: Path) -> str:
    """What there is to say of the source that is built from; empty: the newest on offer."""
    return source.behind(root / "build" / "interpreter")
