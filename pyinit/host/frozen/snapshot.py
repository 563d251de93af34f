# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The memory of the started interpreter, read at three load addresses.

What csrc/runtime/snapshot.c writes is the image's load address and the window. A word that differs
between the three by as much as their load addresses is a pointer into the image. A word that is
the same in all three is a value. There is no third kind: a pointer to a stack, into a mapping or
to libc's heap, a time, a random number or a hash of an address fails the build.

The three load addresses have their 15 lowest bits in common (see _CACHED). So what depends on
these bits alone is not found here. A test looks up every key of the interpreter at others.
"""

import ctypes
import os
import shutil
import struct
import subprocess
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.frozen import flags, foreign

_BASES = 3
_TRIES = 300
# The interpreter's cache of attributes goes by these low bits of addresses (MCACHE_HASH in
# pycore_typeobject.h). What it keeps alive for how long decides where later objects lie. It is
# cleared before the snapshot, and with equal low bits the same file comes out each time.
_CACHED = 32 << 10
_HUGE = 2 << 20
_WORD = 8
_MASK = (1 << 64) - 1
# Pointers in the inline caches of code objects: aligned as code is, by two bytes.
_ODD_STEP = 2
_QUERY, _ADDR_NO_RANDOMIZE = 0xFFFFFFFF, 0x0040000  # <sys/personality.h>


# Of the memory of a program that QEMU runs. The step is an odd number of pages, so each eighth
# address has the 15 bits.
_EMULATED_SIZE, _EMULATED_STEP = 1 << 38, 0x33000


class SnapshotError(Exception):
    """No snapshot can be taken, or something is in it that must not be."""


@dataclass(frozen=True)
class Snapshot:
    """The window as it is at load address 0. Offsets are those from the window's start."""

    words: "array[int]"
    pointers: Sequence[int]
    odd_pointers: Sequence[int]

    def tobytes(self) -> bytes:
        return self.words.tobytes()

    def targets(self) -> Iterator[tuple[int, int]]:
        """Where each pointer is, and what it points to: an offset from the image's start."""
        content = self.tobytes()
        for at in (*self.pointers, *self.odd_pointers):
            yield at, struct.unpack_from("=Q", content, at)[0]

    def moved(self, places: Mapping[int, int]) -> "Snapshot":
        """The same, but what points to a key of `places` points to its value."""
        content = bytearray(self.tobytes())
        for at, target in self.targets():
            if target in places:
                struct.pack_into("=Q", content, at, places[target])
        return Snapshot(array("Q", bytes(content)), self.pointers, self.odd_pointers)


@dataclass(frozen=True)
class Dump:
    """What one process wrote."""

    base: int
    words: "array[int]"

    def at(self, offset: int) -> int:
        """The word at any offset."""
        index, shift = divmod(offset, _WORD)
        if not shift:
            return self.words[index]
        both = self.words[index] | self.words[index + 1] << 64
        return both >> shift * 8 & _MASK


def take(program: Path, targets: Sequence[range]) -> Snapshot:
    """Runs `program`, as often as it takes to get three load addresses, and compares.

    `targets` are the parts of the image that a pointer may point into or right behind, as offsets
    from the image's start. SnapshotError: the program failed, load addresses are not random, or a
    word is neither a value nor a pointer into `targets`.
    """
    dumps: dict[int, Dump] = {}
    seen: set[int] = set()
    memory = _in_memory(program)
    try:
        for number in range(_TRIES):
            dump = _run(program, memory, _emulated(number))
            seen.add(dump.base)
            if dump.base % _CACHED == 0:
                dumps[dump.base] = dump
            if len(dumps) >= _BASES and len({base % _HUGE for base in dumps}) > 1:
                return compare(list(dumps.values()), targets)
    finally:
        os.close(memory)
    bases = ", ".join(f"{base:#x}" for base in sorted(seen)[:_BASES])
    raise SnapshotError(
        f"{program}: {_TRIES} runs had {len(seen)} load addresses ({bases}). The build needs "
        f"{_BASES} that differ, and not only by multiples of 2 MB: see kernel.randomize_va_space, "
        "and /sys/kernel/mm/transparent_hugepage/shmem_enabled"
    )


def _in_memory(program: Path) -> int:
    """A copy that has no file system: from some, programs are loaded at multiples of 2 MB only, and
    what depends on the lower bits of an address would look like a value."""
    memory = os.memfd_create(program.name)
    with program.open("rb") as source, open(memory, "wb", closefd=False) as copy:
        shutil.copyfileobj(source, copy)
    return memory


def _randomize() -> None:
    """Undoes `setarch -R` of a caller: tests under ASan are run so. personality(2)"""
    personality = ctypes.CDLL(None).personality
    personality.argtypes = [ctypes.c_ulong]
    personality(personality(_QUERY) & ~_ADDR_NO_RANDOMIZE)


def _emulated(number: int) -> list[str]:
    """The command that runs a program for another processor, with a load address of its own.

    QEMU's are not random. It loads the program at the end of the memory that it is given.
    """
    processor = flags.foreign()
    if not processor:
        return []
    return [foreign.emulator(processor), "-R", hex(_EMULATED_SIZE + number * _EMULATED_STEP)]


def _run(program: Path, memory: int, emulator: Sequence[str]) -> Dump:
    file = f"/proc/self/fd/{memory}"
    try:
        done = subprocess.run(
            [*emulator, file] if emulator else [program.name],
            executable=emulator[0] if emulator else file,
            pass_fds=[memory],
            capture_output=True,
            env={},
            cwd="/",
            timeout=600,
            check=False,
            preexec_fn=_randomize,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SnapshotError(f"the build has to run {program}: {error}") from None
    if done.returncode or len(done.stdout) % _WORD or len(done.stdout) < 2 * _WORD:
        said = done.stderr.decode(errors="backslashreplace").strip()
        raise SnapshotError(
            f"{program}: exit code {done.returncode}, {len(done.stdout)} bytes: {said}"
        )
    words = array("Q", done.stdout)
    return Dump(words[0], words[1:])


def compare(dumps: Sequence[Dump], targets: Sequence[range]) -> Snapshot:
    """What is a pointer, and what a value. SnapshotError: what is neither."""
    first, *others = dumps
    pointers, unexplained = [], []
    words = array("Q", first.words)
    for index, word in enumerate(first.words):
        rest = [other.words[index] for other in others]
        if all(word == value for value in rest):
            continue
        if _moves(word, rest, first, others):
            words[index] = word - first.base & _MASK
            pointers.append(index * _WORD)
        else:
            unexplained.append(index)
    odd = list(_odd_pointers(dumps, unexplained))
    for offset in odd:
        value = first.at(offset) - first.base & _MASK
        _put(words, offset, value)
    left = [
        index for index in unexplained if len({_cleared(dump, index, odd) for dump in dumps}) > 1
    ]
    if left:
        raise SnapshotError(_told(dumps, left))
    result = Snapshot(words, pointers, odd)
    _check_targets(result, targets)
    return result


def _moves(word: int, rest: Sequence[int], first: Dump, others: Sequence[Dump]) -> bool:
    return all(
        (value - word - other.base + first.base) & _MASK == 0
        for value, other in zip(rest, others, strict=True)
    )


def _odd_pointers(dumps: Sequence[Dump], unexplained: Sequence[int]) -> Iterator[int]:
    first, *others = dumps
    last = len(first.words) - 1
    taken = -_WORD
    for index in unexplained:
        for offset in range((index - 1) * _WORD + _ODD_STEP, (index + 1) * _WORD, _ODD_STEP):
            if offset % _WORD == 0 or offset < taken + _WORD or not 0 <= offset < last * _WORD:
                continue
            values = [other.at(offset) for other in others]
            if _moves(first.at(offset), values, first, others):
                taken = offset
                yield offset


def _put(words: "array[int]", offset: int, value: int) -> None:
    index, shift = divmod(offset, _WORD)
    data = bytearray(struct.pack("=2Q", words[index], words[index + 1]))
    data[shift : shift + _WORD] = struct.pack("=Q", value)
    words[index], words[index + 1] = struct.unpack("=2Q", data)


def _cleared(dump: Dump, index: int, odd: Sequence[int]) -> int:
    """The word at `index`, without the bytes that belong to an odd pointer."""
    start = index * _WORD
    data = bytearray(struct.pack("=Q", dump.words[index]))
    for offset in odd:
        for byte in range(max(offset, start), min(offset + _WORD, start + _WORD)):
            data[byte - start] = 0
    found: int = struct.unpack("=Q", data)[0]
    return found


def _told(dumps: Sequence[Dump], left: Sequence[int]) -> str:
    lines = [f"{len(left)} words of the snapshot are neither values nor pointers into the image:"]
    for index in left[:20]:
        values = ", ".join(f"{dump.words[index]:#x}" for dump in dumps)
        lines.append(f"  at {index * _WORD:#x} of the window: {values}")
    bases = ", ".join(f"{dump.base:#x}" for dump in dumps)
    return "\n".join([*lines, f"  load addresses: {bases}"])


def _check_targets(snapshot: Snapshot, targets: Sequence[range]) -> None:
    wrong = [
        (at, value)
        for at, value in snapshot.targets()
        if not any(part.start <= value <= part.stop for part in targets)
    ]
    if wrong:
        shown = ", ".join(f"{at:#x} to {value:#x}" for at, value in wrong[:20])
        raise SnapshotError(
            f"{len(wrong)} pointers of the snapshot lead out of what is the interpreter's: {shown}"
        )
