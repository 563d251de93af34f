# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Dynamic programs for a guest that has no libc: with their libraries, behind a wrapper."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

from .target import TARGET
from .toolbox import Toolbox

# Where Debian has them.
_LIBRARIES = (f"usr/lib/{TARGET.gnu}-linux-gnu", "usr/lib64", "usr/lib")


def bundle(name: str, program: str, *trees: Path) -> dict[str, Path | str]:
    """Files for an initrd: usr/bin/NAME runs `program` ("usr/bin/strace") of the first of `trees`,
    with libraries of all of them.

    Without any that is the host's, or that of packages for guests that are other machines.

    FileNotFoundError: the program or a library is not there.
    """
    roots = trees or (Path("/") if TARGET.native else Toolbox().guest_tree,)
    directories = [root / directory for root in roots for directory in _LIBRARIES]
    source = roots[0] / program
    loader, _ = _linked(source)
    home = f"opt/{name}"
    files: dict[str, Path | str] = {f"{home}/{name}": source}
    files.update(
        (f"{home}/{library.name}", library)
        for library in _closure([loader, source.name], [*directories, source.parent])
        if library != source
    )
    files[f"usr/bin/{name}"] = (
        f'#!/usr/bin/busybox sh\nexec /{home}/{loader} --library-path /{home} /{home}/{name} "$@"\n'
    )
    return files


def _closure(names: Iterable[str], directories: Sequence[Path]) -> Iterator[Path]:
    """Each named file and all that it needs."""
    unseen, seen = list(names), set()
    while unseen:
        name = unseen.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _find(name, directories)
        unseen += _linked(path)[1]
        yield path


def _find(name: str, directories: Sequence[Path]) -> Path:
    for directory in directories:
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(f"no {name} in {', '.join(map(str, directories))}")


def _linked(path: Path) -> tuple[str, list[str]]:
    """The file name of its loader ("" for a library), and the libraries that it names."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        loader = next(
            (Path(segment.get_interp_name()).name for segment in elf.iter_segments("PT_INTERP")),
            "",
        )
        dynamic = next(elf.iter_segments("PT_DYNAMIC"), None)
        needed = [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")] if dynamic else []
    return loader, needed
