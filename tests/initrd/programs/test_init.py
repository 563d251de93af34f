# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of `init` needs no machine of its own; the rest is in tests/vm/test_init.py, and each of its
calls failing once in tests/vm/faults/test_init_faults.py."""

import errno
import os
import posix
import signal

import pytest

from pyinit.initrd import boot
from pyinit.initrd.handover import announce, ending
from pyinit.initrd.kernel import interfaces
from pyinit.initrd.programs import init
from pyinit.initrd.report import output, traceback
from pyinit.initrd.report.errors import EXIT_USAGE, CfsError, Refused
from pyinit.initrd.source import cmdline, config
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config
from tests.initrd.harness import in_child

REFUSED = Refused("open", "/x", "missing")
NO_MEMORY = "error: attach: /sysroot: out of memory"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the kernel's log would get."""
    lines: list[str] = []
    monkeypatch.setattr(traceback, "log_lines", lines.extend)
    return lines


@pytest.mark.parametrize(("pid", "done"), [(1, ["mounts", "boots single", "ends"]), (2, [])])
def test_no_process_but_pid_1_touches_the_machine(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], pid: int, done: list[str]
) -> None:
    seen: list[str] = []

    def come_up(_settings: Config, arguments: list[str]) -> None:
        seen.append(" ".join(["boots", *arguments]))
        raise REFUSED

    monkeypatch.setattr(posix, "getpid", lambda: pid)
    monkeypatch.setattr(interfaces, "mount_all", lambda: seen.append("mounts"))
    monkeypatch.setattr(config, "load", Config)
    monkeypatch.setattr(init, "come_up", come_up)
    monkeypatch.setattr(posix, "execv", lambda *_: seen.append("shell"))
    monkeypatch.setattr(ending, "end", lambda *_: seen.append("ends"))
    assert init.main(["single"]) == EXIT_USAGE
    assert seen == done
    assert logged == ([str(REFUSED)] if done else [])


@pytest.mark.parametrize(
    ("error", "said", "in_log"),
    [
        (REFUSED, [f"init: {REFUSED}"], [str(REFUSED)]),
        (ValueError("x"), ["ValueError: x"], ["ValueError: x"]),
        (init.Told(), [], []),
        (MemoryError(), [f"init: {NO_MEMORY}"], [NO_MEMORY]),
    ],
)
def test_a_failure_is_told_once(
    logged: list[str],
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    said: list[str],
    in_log: list[str],
) -> None:
    """To who sits there, and to the kernel's log; by a child process, which is not PID 1, too."""
    init.tell(error)
    assert capfd.readouterr().err.splitlines() == said
    assert logged == in_log


@pytest.mark.parametrize(
    ("error", "line"), [(REFUSED, str(REFUSED)), (ValueError("x"), "ValueError: x")]
)
@pytest.mark.parametrize("seen", [True, False])
def test_on_a_console_that_shows_the_log_a_failure_stands_once(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    line: str,
    seen: bool,
) -> None:
    lines: list[str] = []

    def log(given: list[str]) -> bool:
        lines.extend(given)
        return True

    monkeypatch.setattr(traceback, "log_lines", log)
    monkeypatch.setattr(output, "log_is_seen", lambda: seen)
    init.tell(error)
    assert lines == [line]
    assert (line in capfd.readouterr().err) == (not seen)


def compose(patch: pytest.MonkeyPatch, line: bytes, end: str = "") -> tuple[int, str]:
    """How compose_in_child() ends where the child does so, and what both say on stderr."""

    def setup(*_: object, root: str, **__: object) -> dict[str, str]:
        if end == "second":
            return {"image": "/i", "digest": "d"}
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if end:
            raise REFUSED
        return {"root": root}

    def run() -> int:
        try:
            second = init.compose_in_child(
                Config(),
                cmdline.parse(line),
                (),
                None,  # type: ignore[arg-type]
            )
        except init.Told:
            return 8
        except CfsError as error:
            os.write(2, str(error).encode())
            return error.code
        return 6 if second else 7

    patch.setattr(boot, "setup", setup)
    patch.setattr(
        announce, "announce", lambda *given: os.write(2, f"record of {given[1]['root']!r}".encode())
    )
    return in_child(run)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"root=/dev/a rootflags=x init=/i rootwait=1 rootwait=2", []),
        (b"root=/dev/a root=/dev/a init= init=", []),
        (b"root=/dev/a root=/dev/a root=/dev/b", ["root=/dev/a"]),
        (b"init=/\xff rootflags=x init rootflags=y rootfstype=e,f rootfstype=",
         ["rootfstype=e,f", "rootflags=x", "init=/\\udcff"]),
        (b"init rootfstype= init=/i rootfstype=e", ["rootfstype=empty", "init=empty"]),
    ],
)  # fmt: skip
def test_a_word_that_is_there_twice_is_told(
    capfd: pytest.CaptureFixture[str], line: bytes, said: list[str]
) -> None:
    """The kernel would take the last one."""
    init.warn_of_words(cmdline.parse(line))
    text = capfd.readouterr().err.replace(" is there more than once, the first counts: ", "")
    assert text.splitlines() == [f"init: warning: {word}" for word in said]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"quiet root=/dev/a mount=usr rdinit=/i resume_offset=1", ""),
        (b"mount.usr=/dev/b rd.break=x\xff rd.luks.uuid=1 mount.usr=/dev/c resume",
         "mount.usr rd.break rd.luks.uuid resume"),
        (b"luks.name=1=root cryptdevice=/dev/a:root luksoption=1", "luks.name cryptdevice"),
        (b"rd.\xff\x01=1", "rd.\\udcff\\x01"),
        (b"rd." + b"x" * 500, "rd." + "x" * 397),
    ],
)  # fmt: skip
def test_words_for_other_initrds_are_told(
    capfd: pytest.CaptureFixture[str], line: bytes, said: str
) -> None:
    """Who wrote them expects something of them."""
    init.warn_of_words(cmdline.parse(line))
    text = f"init: warning: words for other initrds, not obeyed: {said}\n" if said else ""
    assert capfd.readouterr().err == text


@pytest.mark.parametrize(("line", "root"), [(b"root=UUID=1", "UUID=1"), (b"quiet", "")])
def test_a_child_composes_the_root_and_announces_it(
    monkeypatch: pytest.MonkeyPatch, line: bytes, root: str
) -> None:
    """Without `root=` as well the disk is one that it mounts itself: "", and not None."""
    assert compose(monkeypatch, line) == (7, f"record of {root!r}")


def test_a_child_that_composed_a_second_initrd_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no record of a root, which there is none of yet."""
    assert compose(monkeypatch, b"", "second") == (6, "init: second initrd is /i (d)\n")


def test_a_child_that_fails_stops_the_boot(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """What it was refused, it has said; of what killed it, it could say nothing."""
    assert compose(monkeypatch, b"", "refused") == (8, f"init: {REFUSED}\n")
    assert logged == []  # of this process
    said = "refused: attach: /sysroot: killed by signal 9, expected a composed root"
    assert compose(monkeypatch, b"", "killed") == (Refused.code, said)


def test_words_that_cannot_be_said_do_not_hinder_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that stays short: PID 1 would return, and the kernel panic; or the child go on as if
    it were PID 1, reboot or become the shell."""
    ends: list[str] = []

    def tell(_: BaseException) -> None:
        raise MemoryError

    monkeypatch.setattr(init, "tell", tell)
    monkeypatch.setattr(posix, "getpid", lambda: 1)
    monkeypatch.setattr(interfaces, "mount_all", lambda: tell(MemoryError()))
    monkeypatch.setattr(ending, "end", lambda *_: ends.append("end"))
    init.main([])
    assert ends == ["end"]
    assert compose(monkeypatch, b"", "refused") == (8, "")


@pytest.mark.parametrize(
    ("failure", "executed"), [("reboot", []), ("poweroff", []), ("shell", ["/bin/sh"])]
)
def test_a_shell_only_where_the_configuration_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], failure: str,
    executed: list[str],
) -> None:  # fmt: skip
    """And where there is none, the machine ends after all."""
    asked: list[str] = []
    ended: list[str] = []

    def execv(path: str, _arguments: list[str]) -> None:
        asked.append(path)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(posix, "execv", execv)
    monkeypatch.setattr(ending, "end", lambda _, settings: ended.append(settings.failure))
    settings = Config()
    settings.failure = failure
    assert init.give_up(settings) != 0
    assert (asked, ended) == (executed, [failure])
    assert ("No such file" in capfd.readouterr().err) == bool(executed)


@pytest.mark.parametrize(
    ("number", "verdict"), [(errno.EAGAIN, "refused"), (errno.ENOMEM, "error")]
)
def test_no_process_to_compose_in_is_told_by_its_step(
    monkeypatch: pytest.MonkeyPatch, number: int, verdict: str
) -> None:
    """It was a traceback."""

    def fork() -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(posix, "fork", fork)
    with pytest.raises(CfsError) as caught:
        init.compose_in_child(Config(), CommandLine([]), (), None)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{verdict}: attach: /sysroot: {os.strerror(number)}")
