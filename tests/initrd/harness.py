# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What several tests of the frozen modules share: strategies, a process without disks, a child."""

import _cfs
import contextlib
import os
import posix
from collections.abc import Callable, Iterator

import pytest
from hypothesis import strategies as st

from pyinit.initrd.root.digest import Digest

# Any code point: argv gives surrogates for what is not UTF-8, and st.text() leaves them out.
any_text = st.text(st.integers(0, 0x10FFFF).map(chr))
digests = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda value: Digest(1, value)),
    st.binary(min_size=64, max_size=64).map(lambda value: Digest(2, value)),
)

MALFORMED = {
    "empty": "",
    "cut": "a" * 63,
    "odd": "a" * 65,
    "one byte short of sha512": "a" * 126,
    "upper case": "A" * 64,
    "one upper-case digit": "a" * 63 + "F",
    "no hex digit": "g" * 64,
    "NUL": "a" * 63 + "\0",
    "NUL after it": "a" * 64 + "\0",
    "space before it": " " + "a" * 64,
    "space inside": "a" * 31 + " " + "a" * 32,
    "LF after it": "a" * 64 + "\n",
    "slash": "aa/" + "a" * 61,
    "dots": "../" + "a" * 61,
    "0x": "0x" + "a" * 62,
    "wide digits": "\uff11" * 64,
    "not UTF-8": "\udcff" * 64,
    "lone surrogate": "\ud800" * 64,
    "sha512 by the length of sha256": "sha512:" + "a" * 64,
    "sha256 by the length of sha512": "sha256:" + "a" * 128,
    "prefix alone": "sha256:",
    "unknown prefix": "md5:" + "a" * 64,
    "upper-case prefix": "SHA256:" + "a" * 64,
    "block size": "fsverity-sha256-16:" + "a" * 64,
    "two prefixes": "sha256:sha256:" + "a" * 64,
    "insecure mark": "?" + "a" * 64,
}


def is_one_printable_line(text: str) -> bool:
    return all(0x20 <= ord(character) <= 0x7E for character in text)


class Touched(Exception):
    """A system call was made where none may be."""


@contextlib.contextmanager
def no_disk() -> Iterator[dict[int, str]]:
    """Each function of posix and _cfs that is no pure one raises Touched; what is written to
    stdout and stderr is collected instead."""
    said = {1: "", 2: ""}

    def write(fd: int, data: bytes) -> int:
        said[fd] += data.decode("utf-8", "surrogateescape")
        return len(data)

    def refuse(name: str) -> Callable[..., object]:
        def touched(*arguments: object, **_named: object) -> object:
            raise Touched(name, arguments)

        return touched

    with pytest.MonkeyPatch.context() as patch:
        for module in (posix, _cfs):
            for name, value in list(vars(module).items()):
                is_function = callable(value) and not isinstance(value, type)
                if is_function and not name.startswith(("_", "digest_")):
                    patch.setattr(module, name, refuse(name))
        patch.setattr(posix, "write", write)
        yield said


def in_child(run: Callable[[], int], user: int | None = None) -> tuple[int, str]:
    """Exit code and stderr of `run` in a forked process, as `user` where this one is root.

    Forked and not started anew: another user may not be able to read the sources.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.close(reader)
            os.dup2(writer, 2)
            if user is not None and os.getuid() == 0:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            code = run()
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.decode("ascii")


@contextlib.contextmanager
def opens(module: object = posix, name: str = "open") -> Iterator[dict[str, int]]:
    """The flags of each call of posix.open (or of another function with such arguments), by the
    path. What they keep out cannot all be tried: a race, a device, a program that is executed."""
    seen: dict[str, int] = {}
    real = getattr(module, name)

    def opened(path: str, flags: int, *rest: object, **named: object) -> int:
        seen[path] = flags
        result: int = real(path, flags, *rest, **named)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, opened)
        yield seen
