# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The words for a mount that the kernel did not make, and how a mount point is opened."""

import errno
import fcntl
import os
import posix
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyinit.initrd.kernel import files, mounting, selinux
from pyinit.initrd.report.errors import EXIT_REFUSED, EXIT_SYSTEM, Refused, SystemFailure

KERNEL = os.uname().release


def refused(kind: str, error: int, expected: str = "") -> str:
    """The message, with whether it is a refusal or a failure of the system in front."""
    found = mounting.mount_refused(kind, "/x", OSError(error, os.strerror(error)), expected)
    assert isinstance(found, SystemFailure if str(found).startswith("error") else Refused)
    return str(found)


@pytest.mark.parametrize(
    ("kind", "step"), [("erofs", "erofs"), ("overlay", "overlay"), ("tmpfs", "state"),
                       ("ext4", "state")]
)  # fmt: skip
def test_the_step(kind: str, step: str) -> None:
    assert refused(kind, errno.EINVAL) == f"refused: {step}: /x: Invalid argument (EINVAL)"


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("erofs", "CONFIG_EROFS_FS or module erofs"),
        ("overlay", "CONFIG_OVERLAY_FS or module overlay"),
        ("tmpfs", "CONFIG_TMPFS"),
        ("ext4", "file system ext4"),
    ],
)
def test_a_kernel_without_the_file_system(kind: str, lacks: str) -> None:
    said = refused(kind, errno.ENODEV)
    assert f"/x: kernel {KERNEL} has no {kind}: No such device (ENODEV)" in said
    assert said.endswith(f"expected {lacks}")


def test_what_was_expected_comes_with_the_kernel_that_was_asked() -> None:
    assert refused("overlay", errno.EINVAL, "verity=require (Linux 6.6)") == (
        f"refused: overlay: /x: Invalid argument (EINVAL) by kernel {KERNEL}, "
        "expected verity=require (Linux 6.6)"
    )


def test_a_kernel_without_the_calls() -> None:
    said = refused("erofs", errno.ENOSYS)
    assert mounting.NEW_API in said
    assert "by kernel" not in said


def test_an_image_that_needs_a_loop_device() -> None:
    said = refused("erofs", errno.ENOTBLK)
    assert said.startswith(f"refused: erofs: /x: kernel {KERNEL} mounts it from a loop device only")
    assert "expected Linux 6.12, or module loop and nodes /dev/loop-control" in said


ROOT = "0000000000200000"


@pytest.mark.parametrize(
    ("error", "user", "namespace", "capabilities", "said"),
    [
        (errno.EPERM, 1, 0xEFFFFFFD, ROOT, "expected CAP_SYS_ADMIN (run as root)"),
        (errno.EPERM, 0, 0xEFFFFFFD, ROOT, "expected CAP_SYS_ADMIN, and no filter that"),
        (errno.EPERM, 0, 0xEFFFFFFD, "000001ffffdfffff",
         "expected CAP_SYS_ADMIN, which root has not got here: a container?"),
        (errno.EPERM, 0, 0xEFFFFFFE, ROOT,
         "expected root of the machine: in a user namespace the kernel mounts no EROFS"),
        (errno.EPERM, 0, None, ROOT, "expected CAP_SYS_ADMIN, and no filter that"),
        # `init`, before it has mounted /proc
        (errno.EPERM, 0, None, None, "expected CAP_SYS_ADMIN, and no filter that"),
        (errno.EACCES, 0, 0xEFFFFFFD, ROOT, "expected no security module (AppArmor, SELinux)"),
    ],
)  # fmt: skip
def test_what_forbids_a_mount(
    monkeypatch: pytest.MonkeyPatch, error: int, user: int, namespace: int | None,
    capabilities: str | None, said: str,
) -> None:  # fmt: skip
    def stat(path: str) -> SimpleNamespace:
        assert path == "/proc/self/ns/user"
        if namespace is None:
            raise FileNotFoundError
        return SimpleNamespace(st_ino=namespace)

    def read(path: str, _limit: int) -> bytes:
        assert path == "/proc/self/status"
        if capabilities is None:
            raise FileNotFoundError
        return f"Name:\tx\nCapPrm:\t{'f' * 16}\nCapEff:\t{capabilities}\n".encode()

    monkeypatch.setattr(posix, "stat", stat)
    monkeypatch.setattr(posix, "geteuid", lambda: user)
    monkeypatch.setattr(selinux, "is_on", lambda: False)
    monkeypatch.setattr(files, "read", read)
    found = mounting.forbidden("erofs", "/x", OSError(error, os.strerror(error)), "a call")
    assert said in str(found)
    assert found.code == (EXIT_REFUSED if error == errno.EACCES else EXIT_SYSTEM)
    # The call is named where a filter may be what forbids it.
    assert ("a call: " in str(found)) == (error == errno.EPERM and "namespace" not in said)
    if error == errno.EPERM:
        assert said in refused("erofs", error)


def test_where_no_call_is_known_none_is_named() -> None:
    found = mounting.forbidden("erofs", "/x", OSError(errno.EPERM, os.strerror(errno.EPERM)))
    assert ": /x: Operation not permitted (EPERM), expected " in str(found)


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    mounting.check_proc()

    def stat(path: str) -> None:
        assert path == "/proc/self/mountinfo"
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(posix, "stat", stat)
    with pytest.raises(SystemFailure, match=r"attach: /proc/self: .*ENOENT.*mount -t proc proc"):
        mounting.check_proc()


def test_selinux_is_named_with_who_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selinux, "context", lambda: "system_u:system_r:mount_t:s0")
    error = OSError(errno.EACCES, os.strerror(errno.EACCES))
    assert str(mounting.forbidden("attach", "/x", error, "a call")) == (
        "refused: attach: /x: Permission denied (EACCES), expected a policy of SELinux that allows "
        "it to system_u:system_r:mount_t:s0 (docs/howto/selinux.md)"
    )


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_a_machine_that_is_short_of_something(error: int) -> None:
    assert refused("erofs", error, "x").startswith("error: erofs: /x: ")


def test_a_mount_point_is_opened_without_reading_it(tmp_path: Path) -> None:
    fd = mounting.open_directory(str(tmp_path))
    try:
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        os.close(fd)


def test_a_mount_point_is_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Refused, match=r"attach: .*ENOTDIR.*expected a directory to mount on"):
        mounting.open_directory(str(file))
