# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The tests that belong to a source file: by its name, and by what stands here.

A file has near tests, which run for each of its changes, and far ones for what they let through.
"""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Rooms whose files are on the boot path.
SOURCES = ("pyinit/initrd", "csrc")
# The launcher starts the interpreter, and importer.py imports all else: tests/frozen builds and
# starts the whole.
_NOT = ("csrc/runtime", "pyinit/initrd/importer.py")
# Where the near tests have another name.
_NEAR = {
    "csrc/system/image_file.c": ("test_image",),
    "csrc/system/sys.c": (
        "test_sys",
        "test_store",
        "test_boot",
        "test_confined",
        "test_pe_file",
        "test_ask",
    ),
    "csrc/system/sys_mount.c": ("test_mount",),
    "csrc/system/sys_process.c": ("test_sys", "test_confined"),
}


def files() -> list[str]:
    """The files of the boot path, below the repository."""
    found = [
        path.relative_to(REPOSITORY).as_posix()
        for room in SOURCES
        for path in sorted((REPOSITORY / room).rglob("*.[cp]*"))
        if path.suffix in (".c", ".py") and path.name != "__init__.py"
    ]
    return [name for name in found if not name.startswith(_NOT)]


def far(name: str) -> list[str]:
    """The directory with all tests of the file's side."""
    return ["tests/core" if name.startswith("csrc/") else "tests/initrd"]


def near(name: str) -> list[str]:
    """The files of tests of that name; the far ones where there are none."""
    [room] = far(name)
    if name.startswith("csrc/extension/"):
        stems: tuple[str, ...] = ("test_extension*",)
    else:
        stems = _NEAR.get(name, (f"test_{Path(name).stem}",))
    found = [
        path.relative_to(REPOSITORY).as_posix()
        for stem in stems
        for path in sorted((REPOSITORY / room).rglob(f"{stem}.py"))
    ]
    return found or [room]
