# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Threads that do what they are given. Where the system has few of them: test_scarce.py."""

import threading
import time
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from pyinit.host.store.threads import Threads
from pyinit.initrd.report.errors import SystemFailure

_PLACE = Path("/the/store")
_LONG = 60  # seconds, until a test that would wait for ever fails


def held(event: Event) -> None:
    assert event.wait(_LONG)


def broken(what: object) -> None:
    raise ValueError(what)


def test_what_the_work_returns_or_raises() -> None:
    with Threads(2, _PLACE) as pool:
        task, wrong = pool.submit(lambda: 7), pool.submit(lambda: broken("it"))
        assert task.result() == task.result() == 7
        for _ in range(2):
            with pytest.raises(ValueError, match="it"):
                wrong.result()


def test_what_ends_a_program_ends_no_thread() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with Threads(1, _PLACE) as pool:
        left, after = pool.submit(leave), pool.submit(lambda: 7)
        assert after.result() == 7
        with pytest.raises(SystemExit):
            left.result()


@pytest.mark.parametrize("fails", [False, True])
def test_leaving_waits_for_all_that_was_submitted(fails: bool) -> None:
    """What was handed over with it may go then."""
    before, go, done = threading.active_count(), Event(), list[int]()
    timer = threading.Timer(0.2, go.set)
    try:
        with Threads(1, _PLACE) as pool:
            pool.submit(lambda: held(go))
            for number in range(5):
                pool.submit(lambda number=number: done.append(number))  # type: ignore[misc]
            timer.start()
            if fails:
                broken("it")
    except ValueError:
        assert fails
    timer.join()
    assert done == [0, 1, 2, 3, 4]
    assert threading.active_count() == before


@pytest.mark.parametrize("most", [1, 3])
def test_as_many_as_may_be_and_no_more(most: int) -> None:
    together = Barrier(most)
    before = threading.active_count()
    with Threads(most, _PLACE) as pool:
        pool.each(lambda _: together.wait(_LONG), range(4 * most))
        assert threading.active_count() == before + most


def test_a_thread_without_work_takes_the_next() -> None:
    before = threading.active_count()
    with Threads(8, _PLACE) as pool:
        for _ in range(5):
            pool.submit(lambda: None).result()
            while not pool._idle._value:
                time.sleep(0.001)
        assert threading.active_count() == before + 1
        pool.each(lambda _: None, range(2))
        assert threading.active_count() <= before + 2


def test_each_leaves_out_what_has_not_begun_when_one_was_wrong() -> None:
    begun, go = list[int](), Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            broken(number)
        if number > 3:
            held(go)

    with Threads(1, _PLACE) as pool:
        with pytest.raises(ValueError, match="3"):
            pool.each(work, range(10))
        go.set()
    assert begun in ([0, 1, 2, 3], [0, 1, 2, 3, 4])


def test_each_raises_what_is_first_in_order() -> None:
    """Not in time: the same message comes each time."""
    second = Event()

    def work(number: int) -> None:
        if number == 0:
            held(second)
        else:
            second.set()
        broken(f"number {number}")

    with Threads(2, _PLACE) as pool, pytest.raises(ValueError, match="number 0"):
        pool.each(work, range(2))


def test_as_completed_is_in_the_order_of_the_ends() -> None:
    go = Event()

    def work(number: int) -> int:
        if number == 0:
            held(go)
        return number

    with Threads(2, _PLACE) as pool:
        results = pool.as_completed(work, range(3))
        assert [next(results), next(results)] == [1, 2]
        go.set()
        assert list(results) == [0]


@pytest.mark.parametrize("drops", [False, True])
def test_what_goes_on_when_one_was_wrong(drops: bool) -> None:
    begun, go = list[int](), Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            broken(number)
        held(go)

    with Threads(1, _PLACE) as pool:
        with pytest.raises(ValueError, match="0"):
            next(pool.as_completed(work, range(5)))
        if drops:
            pool.drop()
        go.set()
    assert begun in ([0], [0, 1]) if drops else begun == [0, 1, 2, 3, 4]


def only(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has so many threads for the test."""
    start, started = Thread.start, list[Thread]()

    def begin(thread: Thread) -> None:
        if len(started) == count:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(Thread, "start", begin)


def test_without_a_thread_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has submitted it still has what it was to be done with."""
    only(0, monkeypatch)
    done = list[int]()
    with Threads(4, _PLACE) as pool:
        for _ in range(2):
            with pytest.raises(SystemFailure, match=r"/the/store: no thread can be started"):
                pool.submit(lambda: done.append(1))
        monkeypatch.undo()
        pool.submit(lambda: done.append(2))
    assert done == [2]


def test_one_thread_does_all_where_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    only(1, monkeypatch)
    before = threading.active_count()
    with Threads(4, _PLACE) as pool:
        assert sorted(pool.as_completed(lambda number: number, range(9))) == list(range(9))
        assert threading.active_count() == before + 1


def test_a_thread_whose_start_was_interrupted_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs, and nobody has it in a list. The interpreter waits for it at the end."""
    start, started = Thread.start, list[Thread]()

    def begin(thread: Thread) -> None:
        start(thread)
        started.append(thread)
        if len(started) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Thread, "start", begin)
    with Threads(2, _PLACE) as pool:
        pool.submit(lambda: None)
        with pytest.raises(KeyboardInterrupt):
            pool.submit(lambda: None)
    for thread in started:
        thread.join(_LONG)
        assert not thread.is_alive()


def test_an_interrupt_while_it_waits_for_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is impatient, and what the threads use must stay as long as they do."""
    join, go, done = Thread.join, Event(), list[int]()
    interrupts = [KeyboardInterrupt, KeyboardInterrupt]

    def wait(thread: Thread, timeout: float | None = None) -> None:
        if interrupts:
            raise interrupts.pop()
        go.set()
        join(thread, timeout)

    def work() -> None:
        held(go)
        done.append(1)

    monkeypatch.setattr(Thread, "join", wait)
    with pytest.raises(KeyboardInterrupt), Threads(1, _PLACE) as pool:
        pool.submit(work)
    assert done == [1]
