# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Takes the place of pyinit.initrd.main in a build for tests: argv[1] says what happens."""

import _cfs
import errno
import posix
import sys
import time

import pyinit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def main(argv: list[str]) -> int:
    return MODES[argv[1]](argv[2:])


def exit_with(args: list[str]) -> int:
    return int(args[0])


def no_number(args: list[str]) -> int:
    return None  # type: ignore[return-value]


def chain(args: list[str]) -> int:
    try:
        deep(3)
    except ValueError as error:
        raise KeyError("second\n\x1b[31m") from error  # LINE: second
    return 0


def deep(level: int) -> None:
    """A docstring of
    two lines, and annotations: stripping them must not move the lines."""
    limit: int = 0
    if level > limit:
        deep(level - 1)  # LINE: deeper
    raise ValueError("first")  # LINE: first


def context(args: list[str]) -> int:
    try:
        raise ValueError("seen")
    except ValueError:
        nothing: dict[str, int] = {}
        return nothing["missing"]


def endless(args: list[str]) -> int:
    return endless(args)


def no_text(args: list[str]) -> int:
    class Mute(Exception):
        def __str__(self) -> str:
            raise OSError(errno.EIO, "no words")

    raise Mute


def no_report(args: list[str]) -> int:
    sys.modules["pyinit.initrd.report.traceback"] = pyinit
    raise LookupError("lost")


def sleep(args: list[str]) -> int:
    before = time.monotonic()
    time.sleep(0.0125)
    time.sleep(0)
    assert 0.0125 <= time.monotonic() - before < 60
    for wrong in (-1, float("nan"), float("inf")):
        try:
            time.sleep(wrong)
        except ValueError:
            continue
        raise AssertionError
    return 0


def leave(args: list[str]) -> int:
    raise SystemExit(0)


def compiler(args: list[str]) -> int:
    import builtins

    # By a way around the check of frozen code.
    return int(getattr(builtins, "eval")("1"))  # noqa: B009


def next_descriptor(args: list[str]) -> int:
    """The number that a newly opened file gets."""
    return posix.open("/", posix.O_RDONLY)


def spin(args: list[str]) -> int:
    """Says that it runs, then waits for a signal."""
    posix.write(1, b"ready\n")
    posix.read(0, 1)
    return 0


def modules(args: list[str]) -> int:
    """Imports everything and prints what is there afterwards, and where it came from."""
    for name in args:
        __import__(name)
    for name in sorted(sys.modules):
        origin = getattr(getattr(sys.modules[name], "__spec__", None), "origin", "none")
        posix.write(1, f"{name} {origin}\n".encode())
    return 0


def absent(args: list[str]) -> int:
    """Of loading, pickling, rounding nothing is there, nor exec()."""
    for begun in ("__reduce", "__sizeof", "__getnewargs", "__setstate", "__round"):
        kinds = (object, int, list, dict, OSError)
        assert not [name for kind in kinds for name in dir(kind) if name.startswith(begun)]
    import builtins

    assert "exec" not in dir(builtins)
    assert not [name for name in dir(sys.modules["_" + "imp"]) if not name.startswith("__")]
    return 0


def arguments(args: list[str]) -> int:
    assert sys.argv[2:] == args
    for arg in args:
        posix.write(1, arg.encode("utf-8", "surrogateescape") + b"\n")
    return 0


def environment(args: list[str]) -> int:
    for name, value in posix.environ.items():
        posix.write(1, name + b"=" + value + b"\n")
    return 0


def errors(args: list[str]) -> int:
    """The texts of all error numbers."""
    for number in range(int(args[0])):
        posix.write(1, f"{posix.strerror(number)}\n".encode())
    return 0


def where(args: list[str]) -> int:
    """The address of something in the image."""
    posix.write(1, repr(object.__init_subclass__).rpartition(" ")[2].encode())
    posix.write(1, f"{id(object)}\n".encode())
    return 0


def smaps(args: list[str]) -> int:
    fd = posix.open("/proc/self/smaps", posix.O_RDONLY)
    while part := posix.read(fd, 65536):
        posix.write(1, part)
    return 0


def memory(args: list[str]) -> int:
    """How many bytes can be had in pieces of a kilobyte, and that it goes on afterwards."""
    held: list[bytes] = []
    try:
        while True:
            held.append(bytes(100 + len(held) % 900))
    except MemoryError:
        total = sum(map(len, held))
        del held
    assert len(bytes(1000)) == 1000
    posix.write(1, f"{total}\n".encode())
    return 0


def keys(args: list[str]) -> int:
    """Looks up every key of every dict and set that can be reached; prints how many there are."""
    seen: dict[int, object] = {}
    found: list[object] = [sys.modules, *all_classes(object)]
    dicts = count_of_keys = by_address = 0
    while found:
        value = found.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, type):
            found += [value.__bases__, value.__mro__, value.__dict__]
            continue
        own = getattr(value, "__dict__", None)
        if own is not None:
            found.append(own)
        found += [
            getattr(value, "__code__", None),
            getattr(value, "__defaults__", None),
            getattr(value, "__kwdefaults__", None),
            getattr(value, "__closure__", None),
            getattr(value, "co_consts", None),
        ]
        if isinstance(value, (set, frozenset)):
            assert all(key in value for key in value)
            found += value
        elif isinstance(value, (tuple, list)):
            found += value
        elif isinstance(value, dict) or type(value) is type(type.__dict__):
            dicts += 1
            mapping: dict[object, object] = value  # type: ignore[assignment]
            for key in [*mapping]:
                assert mapping[key] is mapping.get(key, found), key
                count_of_keys += 1
                by_address += type(key).__hash__ is object.__hash__
                found += [key, mapping[key]]
    posix.write(1, f"{dicts} {count_of_keys} {by_address}".encode())
    return 0


# Keys whose hash is that of an address.
BY_ADDRESS = {int: 1, keys: 2, OSError: 3, len: 4}


def all_classes(base: type) -> list[type]:
    found = [base]
    child: type
    for child in type.__subclasses__(base):
        found += all_classes(child)
    return found


class Slotted:
    __slots__ = ("__hidden", "shown")

    def __init__(self) -> None:
        self.__hidden = 1
        self.shown = self.__hidden + 1


def language(args: list[str]) -> int:
    """What frozen code may rely upon. An assertion that fails ends in a traceback."""
    assert Slotted().shown == 2
    assert hasattr(Slotted(), "_Slotted__hidden")
    assert b"\xff".decode("ascii", "backslashreplace") == "\\xff"
    assert b"a\xff".decode("utf-8", "surrogateescape") == "a\udcff"
    assert "a\udcff".encode("utf-8", "surrogateescape") == b"a\xff"
    assert b"\xff".decode("ascii", "replace") == "\ufffd"
    assert "\xe9".encode("ascii", "replace") == b"?"
    assert "\xe9\u20ac".encode("ascii", "backslashreplace") == b"\\xe9\\u20ac"
    assert "\xe9".encode("latin-1") == b"\xe9"
    assert b"ab".hex() == "6162"
    assert bytes.fromhex("6162") == b"ab"
    huge = int("1" + 40 * "0")
    assert int(str(huge // 7)[-3:]) == huge // 7 % 1000
    assert int.from_bytes(b"\x01\x02", "little") == 0x201
    assert int("ff", 16) == 255
    assert f"{255:#06x} {1.5:.2f} {'x'!r:>5}" == "0x00ff 1.50   'x'"
    assert "%s-%d" % ("a", 1) == "a-1"  # noqa: UP031
    assert "{0:03d}".format(7) == "007"  # noqa: UP030, UP032
    assert sorted({"b", "a"}, reverse=True) == ["b", "a"]
    assert list(count(3)) == [0, 1, 2]
    assert [*zip("ab", range(2), strict=True)] == [("a", 0), ("b", 1)]
    assert memoryview(b"abcd")[1:3].tobytes() == b"bc"
    assert time.monotonic() > 0
    assert int("9" * 30) + 1 == int("1" + 30 * "0")
    assert errno.errorcode[errno.ENOENT] == "ENOENT"
    assert _cfs.SHA256 != _cfs.SHA512
    assert posix.listdir("/")
    assert posix.stat("/").st_ino > 0
    assert __debug__
    match ("key", 3):
        case (str(key), int(value)) if value > 2:
            assert key == "key"
        case _:
            raise AssertionError
    try:
        posix.stat("/no/such/file")
    except FileNotFoundError as error:
        assert error.filename == "/no/such/file"
        assert error.strerror == "No such file or directory"
    else:
        raise AssertionError
    try:
        __import__("no_such_module")
    except ModuleNotFoundError as error:
        assert error.name == "no_such_module"
    else:
        raise AssertionError
    assert pyinit.__spec__ is not None
    assert vars(pyinit)["__doc__"] is None
    return 0


def count(limit: int) -> "Iterator[int]":
    yield from range(limit)


MODES: "dict[str, Callable[[list[str]], int]]" = {
    "absent": absent,
    "arguments": arguments,
    "chain": chain,
    "compiler": compiler,
    "context": context,
    "environment": environment,
    "errors": errors,
    "endless": endless,
    "exit": exit_with,
    "keys": keys,
    "language": language,
    "leave": leave,
    "memory": memory,
    "modules": modules,
    "next-descriptor": next_descriptor,
    "no-number": no_number,
    "no-report": no_report,
    "no-text": no_text,
    "sleep": sleep,
    "smaps": smaps,
    "spin": spin,
    "where": where,
}
