# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of three dumps is a pointer, what a value, and what ends the build."""

import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.frozen import snapshot
from pyinit.host.frozen.snapshot import Dump, SnapshotError

WORDS = 64
BASES = (0x7F0000000000, 0x7F0000345000, 0x7E1234567000)
IMAGE = [range(0x1000, 0x9000)]
VALUES = st.integers(0, (1 << 64) - 1)


def dumps(words: list[int], pointers: dict[int, int]) -> list[Dump]:
    """Of processes with these words, but pointers at these offsets, to these places."""
    found = []
    for base in BASES:
        data = bytearray(struct.pack(f"={len(words)}Q", *words))
        for at, target in pointers.items():
            data[at : at + 8] = struct.pack("=Q", base + target)
        found.append(Dump(base, array("Q", bytes(data))))
    return found


def places(draw: st.DrawFn) -> dict[int, int]:
    """Pointers at every eighth word at most, so that none lies in another."""
    chosen = draw(st.sets(st.integers(0, WORDS // 8 - 1), max_size=8))
    return {
        64 * index + draw(st.sampled_from(range(0, 40, 2))): draw(st.integers(0x1000, 0x9000))
        for index in sorted(chosen)
    }


@given(words=st.lists(VALUES, min_size=WORDS, max_size=WORDS), data=st.data())
def test_pointers_are_found_and_values_stay(words: list[int], data: st.DataObject) -> None:
    pointers = data.draw(st.composite(places)())
    found = snapshot.compare(dumps(words, pointers), IMAGE)
    assert sorted([*found.pointers, *found.odd_pointers]) == sorted(pointers)
    assert all(at % 8 == 0 for at in found.pointers)
    assert all(at % 8 for at in found.odd_pointers)
    # What is in the file: everywhere the same, and pointers as offsets from the image's start.
    wanted = bytearray(struct.pack(f"={WORDS}Q", *words))
    for at, target in pointers.items():
        wanted[at : at + 8] = struct.pack("=Q", target)
    assert found.tobytes() == wanted


@pytest.mark.parametrize(
    "strange",
    [
        (1, 2, 3),  # a counter, a time
        (0x7FFC00001000, 0x7FFD23456000, 0x7FFE98765000),  # a stack, a mapping
        (BASES[0] + 1, BASES[1] + 1, BASES[2] + 2),
        (BASES[0], BASES[0], BASES[0] + 1),
        (5, 5, 6),
        (BASES[0] >> 4, BASES[1] >> 4, BASES[2] >> 4),  # the hash of an address
    ],
)
def test_what_is_neither_ends_the_build(strange: tuple[int, int, int]) -> None:
    found = dumps([0] * WORDS, {})
    for dump, value in zip(found, strange, strict=True):
        dump.words[5] = value
    with pytest.raises(SnapshotError, match=r"1 words of the snapshot are neither.*\n  at 0x28 "):
        snapshot.compare(found, IMAGE)


def test_the_rest_of_a_word_beside_an_odd_pointer_counts_too() -> None:
    found = dumps([0] * WORDS, {18: 0x1000})
    snapshot.compare(found, IMAGE)
    found[1].words[2] |= 1
    with pytest.raises(SnapshotError, match="neither"):
        snapshot.compare(found, IMAGE)


@pytest.mark.parametrize("at", [16, 18])
@pytest.mark.parametrize("target", [0, 0xFFF, 0x9001, -8])
def test_a_pointer_to_what_is_not_ours_ends_the_build(at: int, target: int) -> None:
    found = dumps([0] * WORDS, {at: target})
    with pytest.raises(SnapshotError, match=f"1 pointers .* lead out of .*: {at:#x} to 0x"):
        snapshot.compare(found, IMAGE)


@pytest.mark.parametrize("target", [0x1000, 0x8FFF, 0x9000])
def test_the_end_of_an_array_belongs_to_it(target: int) -> None:
    snapshot.compare(dumps([0] * WORDS, {16: target}), IMAGE)


def program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_without_random_addresses_there_is_no_snapshot(tmp_path: Path) -> None:
    path = program(tmp_path, r"printf '\000\000\000\000\000\000\000\001abcdefgh'")
    with pytest.raises(SnapshotError, match=r"300 runs had 1 load addresses.*randomize_va_space"):
        snapshot.take(path, IMAGE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no module >&2; exit 4", "exit code 4, 0 bytes: no module"),
        ("printf 12345678", "exit code 0, 8 bytes"),
        ("printf 123456789012345678", "exit code 0, 18 bytes"),
    ],
)
def test_a_program_that_fails_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SnapshotError, match=said):
        snapshot.take(program(tmp_path, text), IMAGE)
