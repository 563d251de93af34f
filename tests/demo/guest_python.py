# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Python and the product's host commands, for a guest that has neither."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.demo.command import python_path
from tests.vm.once import BUILD, STAMP, made_once
from tests.vm.toolbox import Toolbox

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LEFT_OUT = ("test", "idlelib", "tkinter", "ensurepip", "pydoc_data", "__pycache__")


def python_files(box: Toolbox) -> Mapping[str, bytes | str | Path]:
    """Files of a guest in which `python cfs-store ...` runs (see product.py)."""
    [library] = box.tree.glob("usr/lib/python3.*")
    product = dict(_product())

    def make(directory: Path) -> None:
        target = directory / library.relative_to(box.tree)
        shutil.copytree(
            library, target, ignore=shutil.ignore_patterns(*_LEFT_OUT),
            ignore_dangling_symlinks=True,
        )  # fmt: skip
        for name, source in product.items():
            place = directory / "product" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        # Compiling all that is imported takes an emulated processor longer than running it.
        subprocess.run(
            [
                *box.command(library.name), "-m", "compileall", "-q", "-b",
                "--invalidation-mode", "unchecked-hash", "-s", directory, "-p", "/", directory,
            ],
            env={**os.environ, "PYTHONHOME": str(box.tree / "usr")},
            stdin=subprocess.DEVNULL, timeout=600, check=True,
        )  # fmt: skip
        for source in directory.rglob("*.py"):
            source.unlink()

    made = made_once(BUILD / "demo" / "guest-python", product_key(box), make)
    files: dict[str, bytes | str | Path] = {
        str(path.relative_to(made)): path
        for path in made.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    files[f"usr/bin/{library.name}"] = box.path(f"usr/bin/{library.name}")
    files[_LOADER] = box.path(_LOADER)
    for name in ("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1"):
        files[f"{_LIBRARIES}/{name}"] = box.path(f"{_LIBRARIES}/{name}")
    files["usr/bin/python"] = (
        "#!/usr/bin/busybox sh\n"
        "export PYTHONHOME=/usr PYTHONPATH=/product\n"
        f"exec /{_LOADER} --library-path /{_LIBRARIES} /usr/bin/{library.name} "
        '/product/product.pyc "$@"\n'
    )
    return files


def product_key(box: Toolbox) -> str:
    """Changes with the product's sources and the toolbox."""
    content = [(name, path.read_bytes()) for name, path in _product()]
    return hashlib.sha256(repr((content, (box.tree / STAMP).read_text())).encode()).hexdigest()


def _product() -> Iterator[tuple[str, Path]]:
    yield "product.py", Path(__file__).with_name("product.py")
    for path in python_path():
        for pattern in ("pyinit/**/*.py", "_cfs.*.so"):
            for file in sorted(path.glob(pattern)):
                yield str(file.relative_to(path)), file
