# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Guests that never come to their program, limits, and their account: with a QEMU that is a script.

No time that passes decides anything here.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from . import guest
from .guest import BEGUN, GuestError, boot
from .ledger import Ledger
from .once import REPOSITORY
from .pace import IDLE_SECONDS, MOST, Measured
from .toolbox import Toolbox
from .watch import Limits, watch

PANIC = "echo 'Kernel panic - not syncing: no timer'"
COMES = f"echo '{BEGUN}'"
HANGS = "exec sleep 100000"


class Script(Toolbox):
    """QEMU is a shell script that does one thing at each try."""

    def __init__(self, directory: Path, *tries: str) -> None:
        super().__init__(directory)
        self.count = 0
        """How often it was started."""
        self._program = directory / "qemu"
        cases = "".join(f"{number}) {what} ;;\n" for number, what in enumerate(tries, 1))
        self._program.write_text(f"#!/bin/sh\ncase $1 in\n{cases}esac\n")
        self._program.chmod(0o755)

    def command(self, name: str) -> list[str]:
        assert name == "qemu-system-x86_64"
        self.count += 1
        return [str(self._program), str(self.count)]


class Paces:
    """One answer after the other; the last one from there on."""

    def __init__(self, *answers: float) -> None:
        self.answers = list(answers)
        self.asked = 0

    def scale(self) -> float:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def again(self) -> float:
        self.asked += 1
        return self.scale()


@pytest.fixture(autouse=True)
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Of this test alone."""
    made = Ledger()
    monkeypatch.setattr(guest, "LEDGER", made)
    return made


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> Paces:
    made = Paces(1.0)
    monkeypatch.setattr(guest, "pace", lambda toolbox: made)
    return made


def start(box: Toolbox, limit: float = 3600, until: str | None = None) -> guest.Console:
    return boot(box, kvm=False, limit=limit, begun=BEGUN, until=until)


def test_a_guest_that_dies_early_is_started_once_more(tmp_path: Path, ledger: Ledger) -> None:
    box = Script(tmp_path, f"{PANIC}; echo more", f"{COMES}; echo second")
    assert "second" in start(box).text
    assert (box.count, ledger.started) == (2, 1)
    [line] = ledger.again
    name = "test_a_guest_that_dies_early_is_started_once_more"
    assert re.fullmatch(
        rf"\S+::{name}: it ended \(QEMU: 0\) before its program: Kernel panic .*: no timer", line
    )


def test_a_guest_that_hangs_early_is_started_once_more(
    tmp_path: Path, ledger: Ledger, pace: Paces
) -> None:
    # No time at all for the first, for ever for the second.
    pace.answers = [0, 0, 100]
    box = Script(tmp_path, HANGS, COMES)
    assert not start(box).timed_out
    assert ": it hung for 0 s before its program: nothing on its console" in ledger.again[0]


def test_qemu_that_fails_early_is_started_once_more(tmp_path: Path, ledger: Ledger) -> None:
    start(Script(tmp_path, "echo no memory; exit 1", COMES))
    assert "ended (QEMU: 1) before its program: no memory" in ledger.again[0]


def test_twice_is_a_failure(tmp_path: Path, ledger: Ledger) -> None:
    box = Script(tmp_path, f"{PANIC}; echo one", f"{PANIC}; echo two", COMES)
    with pytest.raises(GuestError, match=r"twice it ended(.|\n)*two(.|\n)*first time(.|\n)*one"):
        start(box)
    assert (box.count, len(ledger.again)) == (2, 1)


@pytest.mark.parametrize("dies", [PANIC, "exit 0", "exit 1", "kill -9 $$"])
def test_from_its_program_on_nothing_is_tried_again(
    tmp_path: Path, ledger: Ledger, dies: str
) -> None:
    box = Script(tmp_path, f"{COMES}; {dies}", COMES)
    if "1" in dies or "9" in dies:
        with pytest.raises(GuestError, match="QEMU: exit"):
            start(box)
    else:
        start(box)
    assert (box.count, ledger.again) == (1, [])


def test_a_program_that_hangs_is_ended_and_not_tried_again(
    tmp_path: Path, ledger: Ledger, pace: Paces
) -> None:
    box = Script(tmp_path, f"{COMES}; {HANGS}")
    assert start(box, limit=0).timed_out
    assert (box.count, ledger.again, pace.asked) == (1, [], 1)


def test_what_is_waited_for_is_a_verdict_too(tmp_path: Path, ledger: Ledger) -> None:
    """Firmware that refuses a program, for instance: that never begins."""
    box = Script(tmp_path, f"echo Access Denied; {HANGS}")
    assert not start(box, until="Denied").timed_out
    assert (box.count, ledger.again) == (1, [])


def test_a_machine_that_became_slower_gives_the_guest_the_rest(tmp_path: Path, pace: Paces) -> None:
    """The first limit is over at once; the program ends by itself in what is left."""
    pace.answers = [0, 100]
    box = Script(tmp_path, f"{COMES}; echo end")
    console = start(box)
    assert not console.timed_out
    assert "end" in console.text


def test_a_machine_that_did_not_is_no_excuse(tmp_path: Path) -> None:
    pace = Paces(0.0, 0.0, 100.0)
    ended = watch(["sh", "-c", f"{COMES}; {HANGS}"], pace, Limits(10, 10), begun=BEGUN)
    assert (ended.timed_out, pace.asked) == (True, 1)


def test_more_than_one_in_fifty_is_a_failure() -> None:
    for started, again, failed in (
        (1, 1, False),
        (99, 1, False),
        (99, 2, True),
        (100, 2, False),
        (149, 3, True),
        (10000, 200, False),
        (10000, 201, True),
    ):
        made = Ledger(started, ["x"] * again)
        assert made.too_many is failed
        assert made.lines()[0] == f"guests: {started}, {again} of them started a second time"
        assert ("a failure" in made.lines()[-1]) is failed
    assert Ledger().lines() == []


def test_ledgers_of_workers_are_one() -> None:
    made = Ledger(3, ["a"])
    made.add(json.loads(json.dumps(vars(Ledger(4, ["b", "c"])))))
    assert (made.started, made.again) == (7, ["a", "b", "c"])


def test_the_machine_is_measured_once_and_anew_when_that_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    seconds = [IDLE_SECONDS / 2, IDLE_SECONDS * 3, IDLE_SECONDS * 4, IDLE_SECONDS * 1000]
    file = tmp_path / "pace"

    def pace() -> Measured:
        return Measured(file, lambda: seconds.pop(0))

    assert pace().scale() == 1
    now[0] += 30
    assert pace().scale() == pace().again() == 1
    now[0] += 60
    assert pace().scale() == 1
    assert pace().again() == pace().scale() == 3
    now[0] += 1000
    assert pace().scale() == 4
    now[0] -= 500  # another boot
    assert pace().scale() == MOST
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(["another boot", *kept[1:]]))
    seconds = [IDLE_SECONDS * 2]
    assert pace().scale() == 2
    file.write_text("[")
    seconds = [IDLE_SECONDS * 5]
    assert pace().scale() == 5


RUN = """
import pytest
from tests.vm.ledger import LEDGER

@pytest.mark.parametrize("number", range({guests}))
def test_guest(number):
    LEDGER.started += 1
    if number < {again}:
        LEDGER.again.append(f"guest {{number}}: died")

@pytest.mark.all_only
def test_of_all():
    pass
"""


@pytest.mark.parametrize(
    ("workers", "guests", "again", "code"), [(0, 60, 2, 1), (2, 60, 1, 0), (2, 60, 2, 1)]
)
def test_the_end_of_a_run_says_what_was_tried_again_and_left_out(
    tmp_path: Path, workers: int, guests: int, again: int, code: int
) -> None:
    """The hooks in tests/conftest.py."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = all_only\n")
    (tmp_path / "test_made_up.py").write_text(RUN.format(guests=guests, again=again))
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest",
            "-n", str(workers), "--rootdir", tmp_path, "-c", tmp_path / "pytest.ini", tmp_path,
        ],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert f"guests: {guests}, {again} of them started a second time" in said
    assert {f"  guest {number}: died" for number in range(again)} < set(said)
    assert ("guests: that is more than one in 50, and a failure" in said) is bool(code)
    assert "1 tests are for `make check-all` alone:" in said
    assert "  test_made_up.py::test_of_all" in said
    assert f"{guests} passed" in done.stdout
