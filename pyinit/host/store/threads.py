# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Threads of the interpreter. The engine's own are in csrc/host/pool.h.

concurrent.futures has the same, but imports logging, and takes 5 ms for that at each start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any, Generic, Self, TypeVar

from pyinit.initrd.report.errors import SystemFailure

_Given = TypeVar("_Given")
_Value = TypeVar("_Value")


class Task(Generic[_Value]):
    """Work that a thread does, or will do."""

    def __init__(self, work: Callable[[], _Value]) -> None:
        self._work = work
        self._done = Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Does it. What it raises is result()'s."""
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error
        self._done.set()

    def result(self) -> _Value:
        """Waits until it is done. Returns what the work returned, or raises what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value


class Threads:
    """Threads that do what is submitted, in that order, as many as there is work for and `most` at
    most. On leaving it waits for all of that. `place`: what messages name where there is no thread.

    It is for one thread, which gives it work, and takes what is made of it.
    """

    def __init__(self, most: int, place: os.PathLike[str]) -> None:
        self._most = most
        self._place = place
        self._threads: list[Thread] = []
        self._idle = Semaphore(0)  # how many of them wait for work
        self._queue: SimpleQueue[Task[Any] | None] = SimpleQueue()  # None: it is the end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        interrupted: BaseException | None = None
        for thread in self._threads:
            while thread.is_alive():
                try:
                    thread.join()
                except BaseException as error:  # an interrupt: what they use must stay until then
                    interrupted = error
        if interrupted is not None:
            raise interrupted

    def submit(self, work: Callable[[], _Value]) -> Task[_Value]:
        """Has it done by a thread. SystemFailure: none can be started, and it is not done. Where
        there are some, but no more, these do it."""
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
            self._start()
        task = Task(work)
        self._queue.put(task)
        return task

    def each(self, work: Callable[[_Given], object], given: Iterable[_Given]) -> None:
        """Has it done with each of them, and waits for that. Raises what the first one in their
        order raised; what has not begun by then is left out."""
        try:
            for task in [self.submit(partial(work, one)) for one in given]:
                task.result()
        except BaseException:
            self.drop()
            raise

    def as_completed(
        self, work: Callable[[_Given], _Value], given: Iterable[_Given]
    ) -> Iterator[_Value]:
        """What it makes of each of them, as they are done. Raises what one of them raised: the
        others go on then, unless they are dropped."""
        done: SimpleQueue[int] = SimpleQueue()

        def run(number: int, one: _Given) -> _Value:
            try:
                return work(one)
            finally:
                done.put(number)

        tasks = [self.submit(partial(run, number, one)) for number, one in enumerate(given)]
        for _ in tasks:
            yield tasks[done.get()].result()

    def drop(self) -> None:
        """Leaves out what has not begun. Its result() would never come."""
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            pass

    def _start(self) -> None:
        # The process does not wait for it, where an interrupt has kept it from its end.
        thread = Thread(target=self._serve, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter has lost why
            if not self._threads:
                place = os.fspath(self._place)
                raise SystemFailure("store", place, "no thread can be started") from None
        else:
            self._threads.append(thread)

    def _serve(self) -> None:
        while (task := self._queue.get()) is not None:
            task.run()
            self._idle.release()
        self._queue.put(None)  # for the others
