# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Disk images, made without mounting anything."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.initrd.partition_tables import mbr

from .target import TARGET
from .toolbox import Toolbox

MIB = 1 << 20
BLOCK = 4096

ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
ROOT_TYPE = TARGET.root_type
_FIRST = 1 * MIB  # where partitions start: aligned for every medium
_TAIL = 1 * MIB  # room for the backup table


def sparse_file(path: Path, size: int) -> Path:
    """A new file of `size` zero bytes."""
    with path.open("xb") as file:
        file.truncate(size)
    return path


def ext4(toolbox: Toolbox, path: Path, tree: Path, size: int = 64 * MIB) -> Path:
    """An ext4 file system that can do fs-verity, filled with `tree`."""
    sparse_file(path, size)
    toolbox.run(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "verity",
        "-b",
        str(BLOCK),
        "-E",
        "root_owner=0:0",
        "-d",
        tree,
        path,
    )
    return path


def btrfs(toolbox: Toolbox, path: Path, tree: Path, size: int = 256 * MIB) -> Path:
    """A btrfs file system filled with `tree`."""
    sparse_file(path, size)
    toolbox.run("mkfs.btrfs", "-q", "--rootdir", tree, path)
    return path


MAKERS = {"ext4": ext4, "btrfs": btrfs}


def esp(toolbox: Toolbox, path: Path, files: Mapping[str, Path], size: int = 64 * MIB) -> Path:
    """A FAT file system with `files` ("EFI/BOOT/BOOTX64.EFI" to source)."""
    sparse_file(path, size)
    toolbox.run("mkfs.vfat", "-F", "32", "-n", "ESP", path)
    made: set[str] = set()
    for name, source in files.items():
        parts = name.split("/")
        for depth in range(1, len(parts)):
            directory = "/".join(parts[:depth])
            if directory not in made:
                toolbox.run("mmd", "-i", path, f"::{directory}")
                made.add(directory)
        toolbox.run("mcopy", "-i", path, source, f"::{name}")
    return path


def gpt(
    toolbox: Toolbox,
    path: Path,
    *,
    esp_image: Path,
    root_image: Path,
    esp_partuuid: str,
    root_partuuid: str,
    more: Sequence[tuple[str, str, Path]] = (),
) -> dict[str, int]:
    """A disk with both partitions, and `more`; byte offset of each of the first ("esp", "root")."""
    parts = ((ESP_TYPE, esp_partuuid, esp_image), (ROOT_TYPE, root_partuuid, root_image))
    offsets = partitioned(toolbox, path, (*parts, *more))
    return dict(zip(("esp", "root"), offsets, strict=False))


def partitioned(toolbox: Toolbox, path: Path, parts: Sequence[tuple[str, str, Path]]) -> list[int]:
    """A disk with these partitions: type, UUID ("R": any), content. Byte offset of each."""
    offsets, end = [], _FIRST
    arguments = []
    for number, (kind, uuid, image) in enumerate(parts, 1):
        offsets.append(end)
        end += -(-image.stat().st_size // MIB) * MIB
        arguments += [f"-n{number}:{offsets[-1] // 512}:{end // 512 - 1}"]
        arguments += [f"-t{number}:{kind}", f"-u{number}:{uuid}"]
    sparse_file(path, end + _TAIL)
    toolbox.run("sgdisk", "-a1", *arguments, path)
    for (_, _, image), offset in zip(parts, offsets, strict=True):
        _copy_sparse(image, path, offset)
    return offsets


def logical(path: Path, image: Path, signature: int) -> int:
    """An MBR disk with two logical partitions; the number of the second, which has `image`."""
    extended, second, content = 2048, 4096, 6144
    size = -(-image.stat().st_size // MIB) * MIB // 512
    sparse_file(path, (content + size) * 512 + _TAIL)
    tables = {
        0: mbr([(0x05, extended, content + size - extended)], signature),
        extended: mbr([(0x83, 63, 100), (0x05, second - extended, content + size - second)]),
        second: mbr([(0x83, content - second, size)]),
    }
    with path.open("r+b") as file:
        for sector, table in tables.items():
            file.seek(sector * 512)
            file.write(table)
    _copy_sparse(image, path, content * 512)
    return 6


def overlay(toolbox: Toolbox, base: Path, path: Path) -> Path:
    """A qcow2 whose writes leave the raw disk `base` as it is."""
    toolbox.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.resolve(), "-F", "raw", path)
    return path


def ext4_offset(toolbox: Toolbox, disk: Path, file: str, block: int = 0) -> int:
    """Byte offset on the raw ext4 `disk` of data block `block` of `file` ("/repo/...").

    ValueError: a hole, inline data, or no such file.
    """
    text = toolbox.run("debugfs", "-R", f"bmap {file} {block}", disk)
    found = re.fullmatch(r"(\d+)\s*", text)
    if not found or found.group(1) == "0":
        raise ValueError(f"{file} has no data block {block} on {disk}: {text!r}")
    return int(found.group(1)) * BLOCK


def flip_byte(disk: Path, offset: int) -> None:
    """Change the byte at `offset`, as one does who has the disk while the machine is off."""
    with disk.open("r+b") as file:
        file.seek(offset)
        [value] = file.read(1)
        file.seek(offset)
        file.write(bytes([value ^ 0xFF]))


def _copy_sparse(source: Path, target: Path, offset: int) -> None:
    with source.open("rb") as reader, target.open("r+b") as writer:
        position = offset
        while chunk := reader.read(MIB):
            if chunk.count(0) != len(chunk):
                writer.seek(position)
                writer.write(chunk)
            position += len(chunk)
