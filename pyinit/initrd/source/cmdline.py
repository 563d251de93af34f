# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel command line, cut into parameters as the kernel cuts it (lib/cmdline.c, next_arg()).

Odd, but the kernel's way: a double quote hides white space wherever it stands, yet is taken away
only in front of a parameter, in front of a value, and at the end; there is no escape character.
Byte 0xA0 is white space, even inside a UTF-8 character.
"""

from pyinit.initrd.kernel import files
from pyinit.initrd.report.errors import Refused, UsageError
from pyinit.initrd.root.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/proc/cmdline"
MAX = 1 << 20
"""Bytes read; the kernel's own limit is 2 KiB to 64 KiB, by architecture."""

_SPACES = (b"\t", b"\n", b"\v", b"\f", b"\r", b"\xa0")  # beside the space itself
_NO_NAME = b'".= \t\n\v\f\r\xa0'  # neither in the name of a module nor in that of a parameter
_WHERE = "kernel command line"


class CommandLine:
    """Parameters in order; `-` and `_` in names are the same to the kernel, and here.

    A value is None where there is no `=`, and "" where nothing follows it.
    """

    __slots__ = ("parameters", "words")

    def __init__(self, parameters: list[tuple[str, str | None]]) -> None:
        self.parameters = parameters
        self.words: list[bytes] = []  # as they stand there, with their quotes

    def all(self, name: str) -> list[str | None]:
        """Every value of that parameter, in order."""
        wanted = name.replace("-", "_")
        return [value for key, value in self.parameters if key.replace("-", "_") == wanted]

    def has(self, name: str) -> bool:
        """Is the parameter there, with a value or without?"""
        return bool(self.all(name))

    def first(self, name: str) -> str | None:
        """The first value. None: not there, or there without `=` (has() tells)."""
        values = self.all(name)
        return values[0] if values else None

    def of_modules(self) -> list[tuple[str, bytes]]:
        """(module, `PARAMETER` or `PARAMETER=VALUE`) of each word with a module's name in front of
        a dot; quotes stay as the kernel wants them, who will cut it again."""
        result = []
        for word in self.words:
            quote = b'"' if word.startswith(b'"') else b""
            module, _, parameter = word[len(quote) :].partition(b".")
            name = parameter.partition(b"=")[0]
            # No dot in a value; and, as modprobe, no quotes in names. `--` would end the others.
            named = module and name not in (b"", b"--")
            if named and not any(byte in _NO_NAME for byte in module + name):
                result.append((_text(module).replace("-", "_"), quote + parameter))
        return result


def parse(data: bytes) -> CommandLine:
    """Any bytes are a command line; what is not UTF-8 is kept by surrogates.

    What stands after a `--` is for init, and in the arguments that the kernel gives to PID 1.
    """
    line = CommandLine([])
    for word in _words(data.partition(b"\0")[0]):
        name, value = _parameter(word)
        if name == "--" and value is None:
            break
        line.parameters.append((name, value))
        line.words.append(word)
    return line


def load(path: str = PATH) -> CommandLine:
    """Of the running kernel; /proc adds one LF, which would count inside an open quote."""
    return parse(files.read(path, MAX).removesuffix(b"\n"))


def digests(line: CommandLine) -> list[Digest]:
    """The digests under the keys of the field, in order, each once; the caller decides what they
    are worth.

    `composefs=<hex>` and `composefs.digest=v1-sha256-12:<hex>` (v1 or v2, sha256 or sha512). The
    word `composefs` alone names none. Refused: the mark `?`, which would switch verification off.
    """
    return list(
        dict.fromkeys(
            _digest(key, value)
            for key, value in line.parameters
            if key == "composefs.digest" or (key == "composefs" and value is not None)
        )
    )


def _digest(key: str, value: str | None) -> Digest:
    if not value:
        raise Refused("source", _WHERE, f"{key}{'' if value is None else '='} without a digest")
    if value.startswith("?"):
        raise Refused("source", _WHERE, f"{key}=? (verification off)", "a digest that is checked")
    text = value
    if key == "composefs.digest":
        version, _, text = value.partition("-")
        # The version is the image format's, which the digest covers; 12: blocks of 2^12 bytes.
        if version not in ("v1", "v2") or not text.startswith(("sha256-12:", "sha512-12:")):
            found = f"{key}={value[:160]}"
            raise Refused("source", _WHERE, found, "v1- or v2-, sha256-12: or sha512-12:, digits")
        text = "fsverity-" + text
    elif ":" in value:
        raise Refused("source", _WHERE, f"{key}={value[:160]}", "hex digits without a prefix")
    try:
        return Digest.parse(text, _WHERE)
    except UsageError as error:
        raise Refused("source", f"{_WHERE}: {key}", error.found, error.expected) from None


def _words(data: bytes) -> "Iterator[bytes]":
    """What white space outside of quotes separates."""
    spaced = data
    for space in _SPACES:
        spaced = spaced.replace(space, b" ")
    start = looked = 0
    in_quotes = False
    while start < len(data):
        end = spaced.find(b" ", looked)
        if end < 0:
            end = len(data)
        in_quotes ^= data.count(b'"', looked, end) % 2 == 1
        looked = end + 1
        if not in_quotes or end == len(data):
            if end > start:
                yield data[start:end]
            start = looked


def _parameter(word: bytes) -> tuple[str, str | None]:
    """Its name, and its value."""
    quoted = word.startswith(b'"')
    if quoted:
        word = word[1:]
    equals = word.find(b"=", 1)  # one in the first place is part of the name
    if equals < 0:
        return _text(word.removesuffix(b'"') if quoted else word), None
    value = word[equals + 1 :]
    if value.startswith(b'"'):
        value = value[1:]
        quoted = True
    # One quote at the end goes, for the one in front of the value or of the whole.
    return _text(word[:equals]), _text(value.removesuffix(b'"') if quoted else value)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
