# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of switching root needs no machine of its own; the rest is in tests/vm/test_init.py."""

import _cfs
import errno
import os
import posix
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd.handover import switch_root
from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.programs import init
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source.config import Config
from tests.initrd.harness import opens


def test_what_init_names_has_to_lie_on_the_sealed_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else `init=/var/x` is a program of who has the disk. Mounts are told from each other by
    their number: here each directory is one."""
    program = tmp_path / "program"
    program.touch(0o755)
    monkeypatch.setattr(mountinfo, "mount_id", lambda _: 1)
    with opens() as seen:
        switch_root.check_program(str(program))
    # not for reading: a program may be one to execute only, and a device acts when it is opened
    assert seen == dict.fromkeys((str(program), "/"), os.O_PATH | os.O_CLOEXEC)
    place = program.stat().st_ino
    monkeypatch.setattr(mountinfo, "mount_id", lambda fd: os.fstat(fd).st_ino == place)
    monkeypatch.setattr(mountinfo, "of", lambda _: None)
    with pytest.raises(Refused) as caught:
        switch_root.check_program(str(program))
    assert str(caught.value) == (
        f"refused: switch-root: {program}: not on the sealed root, expected a program of the image"
    )


@pytest.mark.parametrize(
    ("line", "is_sealed"),
    [
        ("0:40 /usr /usr", True),
        ("0:41 /usr /usr", False),  # another file system
        ("0:40 / /usr", False),  # another directory
        ("0:40 /usr /var", False),  # another place
        ("0:40 /usr /usr/local", False),
        (None, False),  # attached nowhere
    ],
)
def test_usr_may_be_the_sealed_roots_own_bound_on_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str | None, is_sealed: bool
) -> None:
    """layers.bind_usr does that. Nothing else is let through by it."""
    program = tmp_path / "program"
    program.touch(0o755)
    place = program.stat().st_ino
    shown = b"1 0 0:40 / / rw - overlay composefs:ab rw\n"
    if line is not None:
        shown += f"2 1 {line} rw - overlay composefs:ab rw\n".encode()
    monkeypatch.setattr(mountinfo, "mount_id", lambda fd: 1 + (os.fstat(fd).st_ino == place))
    monkeypatch.setattr(mountinfo, "of", lambda fd: mountinfo.find(shown, mountinfo.mount_id(fd)))
    if is_sealed:
        switch_root.check_program(str(program))
    else:
        with pytest.raises(Refused, match="not on the sealed root"):
            switch_root.check_program(str(program))


def test_a_root_that_mountinfo_does_not_show_has_no_usr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "init"
    program.touch(0o755)
    place = program.stat().st_ino
    usr = b"2 1 0:40 /usr /usr rw - overlay composefs:ab rw\n"
    monkeypatch.setattr(mountinfo, "mount_id", lambda fd: 1 + (os.fstat(fd).st_ino == place))
    monkeypatch.setattr(mountinfo, "of", lambda fd: mountinfo.find(usr, mountinfo.mount_id(fd)))
    with pytest.raises(Refused, match="not on the sealed root"):
        switch_root.check_program(str(program))


def test_programs_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mountinfo, "mount_id", lambda _: 1)
    with pytest.raises(Refused, match="missing in the image"):
        switch_root.check_program(str(tmp_path / "none"))
    (tmp_path / "text").touch(0o644)
    with pytest.raises(Refused, match="not executable"):
        switch_root.check_program(str(tmp_path / "text"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine whose root is switched in words only: what would be done, in order."""
    done: list[str] = []
    monkeypatch.setattr(mountinfo, "of", lambda _: SimpleNamespace(fstype="rootfs"))
    monkeypatch.setattr(_cfs, "root_is_initramfs", lambda: True)
    for name in ("mount_move", "initramfs_empty"):
        monkeypatch.setattr(_cfs, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(
        _cfs, "switch_root", lambda _, leave: done.append("leave" if leave else "switch_root")
    )
    monkeypatch.setattr(posix, "execv", lambda path, _: done.append(path))
    return done


@pytest.mark.parametrize("action", ["shell", "reboot", "poweroff"])
def test_no_shell_once_the_root_is_another(
    machine: list[str], monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """/bin/sh is the image's by then: a password prompt is not what stands before it."""
    settings = Config()
    settings.failure, settings.failure_delay = action, 0
    with pytest.raises(Refused, match="missing in the image"):
        switch_root.switch("init", "/sysroot", settings, "/nowhere/at/all", [])
    assert machine == ["mount_move"] * 4 + ["switch_root"]
    monkeypatch.setattr(_cfs, "reboot", lambda command: machine.append(hex(command)))
    init.give_up(settings)
    assert machine[5:] == ["0x4321fedc" if action == "poweroff" else "0x1234567"]


def test_a_root_that_was_not_switched_leaves_the_shell(
    machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cfs, "root_is_initramfs", lambda: False)
    settings = Config()
    settings.failure = "shell"
    with pytest.raises(Refused, match="not the initramfs"):
        switch_root.switch("init", "/sysroot", settings, "/sbin/init", [])
    assert (settings.failure, machine) == ("shell", [])
    monkeypatch.setattr(_cfs, "root_is_initramfs", lambda: True)
    monkeypatch.setattr(mountinfo, "of", lambda _: SimpleNamespace(fstype="tmpfs"))
    with pytest.raises(Refused, match="not the initramfs"):
        switch_root.switch("init", "/sysroot", settings, "/sbin/init", [])
    assert (settings.failure, machine) == ("shell", [])


def test_the_initramfs_is_emptied_when_the_program_is_known_to_be_good(
    machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_root, "check_program", lambda path: machine.append(f"check {path}"))
    switch_root.switch("init", "/sysroot", Config(), "/sbin/init", [])
    assert machine[4:] == ["switch_root", "check /sbin/init", "initramfs_empty", "/sbin/init"]

    def fail(_path: str, _arguments: list[str]) -> None:
        raise OSError(errno.ENOEXEC, "Exec format error")

    monkeypatch.setattr(posix, "execv", fail)
    with pytest.raises(Refused, match="switch-root: /sbin/init: Exec format error"):
        switch_root.switch("init", "/sysroot", Config(), "/sbin/init", [])


def test_a_second_initrd_is_left_with_its_mount(
    machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no initramfs, and nothing of it may be deleted: below it lies the store's image. Only
    where the configuration says that it is one, and the root is an overlay."""
    monkeypatch.setattr(mountinfo, "of", lambda _: SimpleNamespace(fstype="overlay"))
    monkeypatch.setattr(_cfs, "root_is_initramfs", lambda: False)
    monkeypatch.setattr(switch_root, "check_program", lambda _: None)
    settings = Config()
    with pytest.raises(Refused, match="not the initramfs"):
        switch_root.switch("init", "/sysroot", settings, "/sbin/init", [])
    settings.digest_source = "first-initrd"
    switch_root.switch("init", "/sysroot", settings, "/sbin/init", [])
    assert machine == ["mount_move"] * 4 + ["leave", "/sbin/init"]
    monkeypatch.setattr(mountinfo, "of", lambda _: SimpleNamespace(fstype="ext4"))
    with pytest.raises(Refused, match="not the initramfs"):
        switch_root.switch("init", "/sysroot", settings, "/sbin/init", [])


def test_init_gets_the_arguments_of_the_kernel(
    machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with them its own name, as the kernel does it."""
    executed: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(switch_root, "check_program", lambda _: None)
    monkeypatch.setattr(posix, "execv", lambda *given: executed.append(given))
    given = ["single", "a b", "-x=\udcff"]
    switch_root.switch("init", "/sysroot", Config(), "/i", given)
    assert executed == [("/i", ["/i", *given])]


def test_an_initramfs_that_is_not_emptied_stops_no_boot(
    machine: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_root: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(switch_root, "check_program", lambda _: None)
    monkeypatch.setattr(_cfs, "initramfs_empty", fail)
    switch_root.switch("init", "/sysroot", Config(), "/sbin/init", [])
    assert machine[-1] == "/sbin/init"
    assert capfd.readouterr().err == "init: warning: initramfs not emptied: no (EIO)\n"
