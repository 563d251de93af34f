# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The confinement of changed code.

A program whose checks are gone has removed directories of the machine whose root ran it. So it sees
no process but its own, no network and no device that holds data. All file systems are read-only to
it but its copy, where its temporary files lie too. It cannot end the machine, set its clock or
load a module.

    python3 cell.py DIRECTORY COMMAND...     started as command() says

Where the system allows no such cell this fails: changed code never runs without one.
"""

import ctypes
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_SETATTR = 442  # on all architectures; Linux 5.12
_MOUNT_ATTR_RDONLY = 1
_MS_BIND = 4096
_PR_CAPBSET_DROP = 24
# CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT, CAP_SYS_TIME
_DROPPED = (16, 17, 22, 25)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")
    ]


def command(directory: Path, *arguments: str) -> list[str]:
    """The argument list that runs `arguments` in a cell whose one writable place is `directory`."""
    return [
        "setpriv", "--pdeathsig", "KILL", "--",
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts",
        "--propagation", "private", "--",
        sys.executable, "-I", str(Path(__file__).resolve()), str(directory), *arguments,
    ]  # fmt: skip


def _check(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(
    source: str, target: str, kind: str | None, flags: int = 0, options: str | None = None
) -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() if kind else None,
        ctypes.c_ulong(flags), options.encode() if options else None,
    )  # fmt: skip
    _check(result, f"mount {target}")


def _attributes(path: str, set_: int, clear: int, flags: int) -> None:
    attributes = _MountAttr(set_, clear, 0, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )  # fmt: skip
    _check(result, f"mount_setattr {path}")


def _devices() -> None:
    opened = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _DEVICES}
    _mount("tmpfs", "/dev", "tmpfs")
    for name, fd in opened.items():
        Path("/dev", name).touch()
        _mount(f"/proc/self/fd/{fd}", f"/dev/{name}", None, _MS_BIND)
        os.close(fd)
    os.symlink("/proc/self/fd", "/dev/fd")
    Path("/dev/pts").mkdir()  # terminals of its own
    _mount("devpts", "/dev/pts", "devpts", options="newinstance,ptmxmode=0666")
    os.symlink("pts/ptmx", "/dev/ptmx")


def enter(directory: str) -> None:
    """Confines this process, the first one of its namespaces."""
    if os.getpid() != 1:
        raise SystemExit("cell: this is no process namespace of its own")
    _mount("proc", "/proc", "proc")
    _devices()
    _attributes("/", _MOUNT_ATTR_RDONLY, 0, _AT_RECURSIVE)
    _mount(directory, directory, None, _MS_BIND)
    _attributes(directory, 0, _MOUNT_ATTR_RDONLY, 0)
    for capability in _DROPPED:
        _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), f"capability {capability}")
    temporary = Path(directory, "tmp")
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    os.chdir(directory)


if __name__ == "__main__":
    enter(sys.argv[1])
    # PID 1 of the cell: processes that lose their parent become its own. It ends with its child.
    child = os.fork()
    if child == 0:
        os.execvp(sys.argv[2], sys.argv[2:])
    while True:
        pid, status = os.wait()
        if pid == child:
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
