# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Takes the place of pyinit.initrd.main in a build for tests: cfs-mount, again and again.

    attempts COUNT STORE DIGEST TARGET EXPECTED all|some

Each attempt is a process of its own, forked when the interpreter has started and all is imported:
what is left is the mount, some hundred times faster than a shell could try it. After each, the
files of EXPECTED are compared with those on TARGET ("some": a file may be unreadable instead). The
last line counts mounts, and refusals by their step. Exit 1: something wrong was mounted or said.
"""

import _cfs
import posix

from pyinit.initrd.programs import mount_command
from pyinit.initrd.report import output, traceback
from pyinit.initrd.report.errors import EXIT_REFUSED

FILES = ("etc/canary", "etc/hostname", "usr/bin/program", "usr/lib/data")
_NAME = "cfs-mount"
_REFUSED = f"{_NAME}: refused: "
_SIZE_MAX = 1 << 20


def main(argv: list[str]) -> int:
    count, store, digest, target, expected, which = argv[1:]
    content = {file: _read(f"{expected}/{file}") for file in FILES}
    arguments = ["--object-store", store, "--digest", digest, target]
    refused: dict[str, int] = {}
    mounted = 0
    for _ in range(int(count)):
        code, said = _attempt(arguments)
        if code == 0:
            mounted += 1
            fault = _compare(target, content, which == "some")
            _detach(target)
        else:
            step = said.removeprefix(_REFUSED).partition(":")[0]
            refused[step] = refused.get(step, 0) + 1
            right = code == EXIT_REFUSED and said.startswith(_REFUSED)
            fault = "" if right else f"exit {code}: {said}"
        if fault:
            output.out(f"WRONG after {mounted} mounted, {refused}: {fault}\n")
            return 1
    steps = " ".join(f"{step}={refused[step]}" for step in sorted(refused))
    output.out(f"mounted={mounted} {steps}\n")
    return 0


def _attempt(arguments: list[str]) -> tuple[int, str]:
    """Exit code (-1: killed) and stderr of one cfs-mount."""
    incoming, outgoing = posix.pipe()
    child = posix.fork()
    if child == 0:
        posix.dup2(outgoing, 2)
        code = 4
        try:
            code = mount_command.main(_NAME, arguments)
        except BaseException as error:
            traceback.report(error)
        posix._exit(code)
    posix.close(outgoing)
    said = b""
    while part := posix.read(incoming, 4096):
        said += part
    posix.close(incoming)
    _, status = posix.waitpid(child, 0)
    code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else -1
    return code, said.decode("utf-8", "replace")


def _compare(target: str, content: dict[str, bytes], some: bool) -> str:
    for file, expected in content.items():
        try:
            found = _read(f"{target}/{file}")
        except OSError as error:
            if not some:
                return f"{file}: {error}"
        else:
            if found != expected:
                return f"{file}: {len(found)} other bytes"
    return ""


def _read(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, _SIZE_MAX)
    finally:
        posix.close(fd)


def _detach(target: str) -> None:
    fd = posix.open(target, posix.O_PATH | posix.O_CLOEXEC)
    _cfs.mount_detach(fd)
    posix.close(fd)
