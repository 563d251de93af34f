# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for the reader of layers: tar files by hand, so that each field can be wrong."""

from collections.abc import Iterator

NEXT = b"\0next layer\0"
"""Between the layers of one seed."""
END = bytes(1024)
_SUM = 148


def header(
    name: bytes = b"a",
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    link: bytes = b"",
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    gid: bytes = b"0000000\0",
    mtime: bytes = b"00000000017\0",
    magic: bytes = b"ustar\x0000",
    major: bytes = b"0000001\0",
    minor: bytes = b"0000003\0",
    prefix: bytes = b"",
    total: bytes | None = None,
) -> bytes:
    """A block with a right sum, unless `total` is one."""
    if isinstance(size, int):
        size = b"%011o\0" % size
    fields = (
        (name, 100), (mode, 8), (uid, 8), (gid, 8), (size, 12), (mtime, 12), (b" " * 8, 8),
        (kind, 1), (link, 100), (magic, 8), (b"root", 32), (b"root", 32), (major, 8), (minor, 8),
        (prefix, 155), (b"", 12),
    )  # fmt: skip
    block = b"".join(value.ljust(length, b"\0") for value, length in fields)
    if total is None:
        total = b"%06o\0 " % sum(block)
    return block[:_SUM] + total + block[_SUM + 8 :]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes = b"a", content: bytes = b"hello\n", **fields: bytes) -> bytes:
    return header(name, size=len(content), **fields) + padded(content)


def directory(name: bytes = b"d/") -> bytes:
    return header(name, b"5", mode=b"0000755\0")


def link(name: bytes, target: bytes) -> bytes:
    return header(name, b"2", link=target, mode=b"0000777\0")


def hard_link(name: bytes, target: bytes) -> bytes:
    return header(name, b"1", link=target)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d%s" % (length, rest)


def before(kind: bytes, data: bytes) -> bytes:
    """What stands before a header: x, g, L or K."""
    return header(b"./before", kind, size=len(data)) + padded(data)


def records(*pairs: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return before(kind, b"".join(record(*pair) for pair in pairs))


def layers(*each: bytes) -> bytes:
    return NEXT.join(one + END for one in each)


_XATTR = b"SCHILY.xattr."
_DIGITS = b"01777777777\0"

BROKEN = {
    "a number that is too large": layers(header(size=b"\x80" + b"\x7f" * 11)),
    "a field that is no number": layers(header(mode=b"rw-r--r-")),
    "a record that is no number, or too large": layers(records((b"uid", b"x")) + file()),
    "an owner that no file has": layers(header(uid=b"\x80\0\0\x01\0\0\0\0")),
    "a size that no file has": layers(header(size=b"\xff" * 12)),
    "a record without a key": layers(before(b"x", b"6 =abc\n") + file()),
    "a record of another length than it says": layers(before(b"x", b"9 uid=1\n") + file()),
    "an xattr whose name is empty, over 255 bytes, or has a NUL": layers(
        records((_XATTR + b"n" * 256, b"v")) + file()
    ),
    "more xattrs than a file can have": layers(
        records((_XATTR + b"user.a", b"v" * 32768)) + file()
    ),
    "a sparse file in the form of GNU tar": layers(header(kind=b"S")),
    "an entry of a kind that layers do not have": layers(header(kind=b"V")),
    "it ends in the middle of a header": file() + header()[:100],
    "it ends in the middle of a file": header(size=513) + bytes(512),
    "it ends without an end": file(),
    "a single block of zeros, which is no end": file() + bytes(512) + file(),
    "names or records of more than 1 MiB": header(kind=b"x", size=(1 << 20) + 1),
    "a name, a size or an xattr for all files": layers(
        records((b"path", b"b"), kind=b"g") + file()
    ),
    "a name or records of no file": layers(records((b"uid", b"1"))),
    "no header of tar: its sum is another one": layers(header(total=b"0000001\0")),
    "two names or two lots of records for one file": layers(
        before(b"L", b"b") + before(b"L", b"c") + file()
    ),
    "an ACL as a text, and not as an xattr": layers(
        records((b"SCHILY.acl.access", b"user::rwx")) + file()
    ),
    "a name with a NUL": layers(records((b"path", b"a\0b")) + file()),
    "a file whose name is that of a directory": layers(header(b"a/")),
    "a device that Linux does not have": layers(header(kind=b"3", major=b"0010000\0")),
    "a size of what has no content": layers(header(kind=b"5", size=1)),
    "a path that begins with a slash": layers(file(b"/a")),
    "a path with ..": layers(file(b"a/../b")),
    "a name of more than 255 bytes": layers(before(b"L", b"n" * 256 + b"\0") + file()),
    "directories that are too deep in each other": layers(
        before(b"L", b"d/" * 2048 + b"f") + file()
    ),
    "something in a whiteout": layers(file(b".wh.a/b")),
    "a marker of aufs": layers(file(b".wh..wh.plnk", b"")),
    "a whiteout of no file": layers(file(b"d/.wh.", b"")),
    "a whiteout with content": layers(file(b".wh.a")),
    "a link of no possible length": layers(link(b"a", b"")),
    "a path that leads through a link": layers(link(b"l", b".."), file(b"l/a")),
    "a path that leads through what is no directory": layers(file(b"a"), file(b"a/b")),
    "a root that is no directory": layers(link(b".", b"a")),
    "a hard link to no file": layers(hard_link(b"b", b"a")),
}
"""Each rule of csrc/host/tar.cc and layers.cc."""


def tar() -> list[bytes]:
    """Whole layers, fields of all kinds, and each rule broken."""
    return [*_whole(), *BROKEN.values(), *_more_broken(), *_fields()]


def _whole() -> Iterator[bytes]:
    yield END
    yield file() + bytes(512)
    yield file() + END + b"whatever comes behind it"
    yield layers(
        directory(b"./") + directory() + file(b"d/f", b"c" * 600) + link(b"l", b"d/f")
        + hard_link(b"h", b"./d/f") + header(b"c", b"3") + header(b"b", b"4") + header(b"p", b"6")
        + header(b"old/", b"\0", magic=b"", prefix=b"p") + file(b"d/g") + file(b"7", kind=b"7")
        + file(b"x", prefix=b"d/long"),
        file(b".wh.l", b"") + file(b"d/.wh..wh..opq", b"") + file(b"d/new", b"n" * 70)
        + hard_link(b"h2", b"h"),
    )  # fmt: skip
    # Directories over others, and files over directories.
    yield layers(directory() + file(b"d/f") + directory(), file(b"d"), directory() + file(b"d/g"))
    # Whiteouts of nothing, and through what is a link below.
    yield layers(
        link(b"d", b"e") + file(b"f"),
        directory() + file(b"d/.wh..wh..opq", b"") + file(b"d/.wh.a", b"")
        + file(b"n/.wh.o", b"") + file(b"n/m/.wh.o", b""),
    )  # fmt: skip
    yield layers(file(b"f"), header(b"f/.wh.x", b"1", link=b"a"))
    yield layers(
        records(
            (b"path", b"d/" + b"n" * 255), (b"uid", b"4294967295"), (b"gid", b"65536"),
            (b"mtime", b"1700000000.123456789012"), (b"size", b"6"), (b"comment", b"x"),
            (_XATTR + b"user.a", b"b=\0\n"), (_XATTR + b"security.selinux", b""), (b"atime", b""),
            (b"linkpath", b""),
        ) + file(b"short")
        + records((b"mtime", b"-1.5")) + file(b"f")
        + records((b"mtime", b"-0.0000000001")) + file(b"g") + records((b"mtime", b"-2")) + file(),
    )  # fmt: skip
    yield layers(
        records((b"mtime", b"5.25"), (b"uid", b"7"), (b"gid", b"8"), (b"comment", b"1"), kind=b"g")
        + file() + records((b"uid", b"9")) + file(b"b")
        + before(b"L", b"long/" * 60 + b"name\0") + before(b"K", b"t" * 300 + b"\0")
        + header(b"l", b"2")
        + records((b"linkpath", b"long/b")) + header(b"l2", b"2"),
    )  # fmt: skip
    yield layers(header(mtime=b"\xff" * 12, uid=b"\x80\0\0\0\xff\xff\xff\xff", gid=b"  17 \0"))
    yield layers(file(b"a"), hard_link(b"b", b"a") + hard_link(b"c", b"b"), file(b".wh.a", b""))
    yield layers(file(b"a") + hard_link(b"b", b"a") + file(b"a", b"other") + hard_link(b"c", b"b"))
    yield layers(b"".join(file(b"%d" % number) for number in range(5)))
    # A depth that is just allowed.
    yield layers(before(b"L", b"d/" * 2047 + b"f") + file())


def _more_broken() -> Iterator[bytes]:
    """The same rules in other ways."""
    for name in (b"..", b"a/..", b"./../a", b"a//..//b", b"//", b"/", b".wh../x"):
        yield layers(file(name))
    for name in (b".wh..", b".wh...", b".wh..wh.", b".wh..wh..opq/a", b"d/.wh..wh.aufs"):
        yield layers(file(name, b""))
    for target in (b"/a", b"../a", b"b", b"d", b"d/", b"a/x", b"l/x", b"", b"n" * 100):
        yield layers(
            file() + directory() + link(b"l", b"d") + file(b"d/x") + hard_link(b"b", target)
        )
    yield layers(hard_link(b".", b"a"))
    yield layers(directory() + file(b"d/a") + hard_link(b"d", b"d/a"))
    yield layers(link(b"l", b"/etc") + file(b"l/a"))
    yield layers(link(b"l", b"d") + directory() + directory(b"l/x"))
    yield layers(header(b"c", b"6") + file(b"c/a"))
    yield layers(before(b"L", b"d/" * 2048) + header(kind=b"5"))
    yield layers(before(b"K", b"t" * 4096 + b"\0") + header(b"l", b"2"))
    yield layers(records((_XATTR + b"lustre.a", b"b")) + file())
    yield layers(records((_XATTR, b"b")) + file())
    yield layers(records((_XATTR + b"a\0", b"b")) + file())
    yield layers(records(*((_XATTR + b"user.%d" % i, b"v" * 900) for i in range(40))) + file())
    yield layers(records((_XATTR + b"trusted.overlay.whiteout", b"")) + file(b"a", b"c" * 100))
    yield layers(records((b"GNU.sparse.major", b"1")) + file())
    yield layers(records((b"GNU.sparse.major", b"1"), kind=b"g") + file())
    yield layers(before(b"L", b"b") + records((b"path", b"c")) + file())
    yield layers(before(b"K", b"b") + records((b"linkpath", b"c")) + link(b"l", b"d"))
    yield layers(before(b"K", b"b") + before(b"K", b"b") + link(b"l", b"d"))
    yield layers(records((b"uid", b"1")) + records((b"uid", b"1")) + file())
    yield layers(before(b"L", b"b"))
    yield layers(before(b"K", b"b"))
    yield layers(header(b"l", b"2", link=b"a", size=5) + bytes(512))
    yield layers(header(b"l", b"1", link=b"a", size=5) + bytes(512))
    yield layers(header(kind=b"4", major=b"0000001\0", minor=b"4000000\0"))
    yield layers(header(kind=b"3", major=b"\xff" * 8))
    yield layers(header(kind=b"3", minor=b"\xff" * 8))
    for value in (
        b"",
        b"x",
        b"1x",
        b"1.x",
        b".5",
        b"-",
        b"1e5",
        b"9" * 19,
        b"-.5",
        b"1.0000000000x",
    ):
        yield layers(records((b"mtime", value)) + file())
    for value in (b"-1", b"4294967296", b"999999999999999999"):
        yield layers(records((b"uid", value)) + file())
        yield layers(records((b"size", value)) + file())
    for data in (b"x", b"7", b"7 a=b", b"0 a=b\n", b"3 a=b\n", b"6 a=bcd", b"6=a b\n", b"99 a=b\n",
                 b"6 a=b\n" * 3, b"\n", b"5 a=\n", b" a=b\n"):  # fmt: skip
        yield layers(before(b"x", data) + file())
        yield layers(before(b"g", data) + file())
    whole = layers(records((b"uid", b"1")) + file(b"a", b"c" * 600))
    for end in (1, 511, 512, 600, 1024, 1100, 1536, 2000, 2600, 3071):
        yield whole[:end]
    yield file() + bytes(700)


def _fields() -> Iterator[bytes]:
    """Each number of a header with each of these."""
    values = (b"", b" ", b"8", b"7777777\0", b"7 7", b"\x80\0\0\0\0\0\0\1", b"\xff" * 8, b"\x81",
              b"\x80" + b"\xff" * 7)  # fmt: skip
    for field in ("mode", "uid", "gid", "mtime", "size", "major", "minor"):
        for value in values:
            # Numbers fill their field where they are no digits.
            length = 12 if field in ("mtime", "size") else 8
            text = value[:1] + value[1:].rjust(length - 1, value[1:2]) if len(value) == 8 else value
            kind = b"3" if field in ("major", "minor") else b"0"
            yield layers(header(kind=kind, **{field: text}) + bytes(512))
    yield layers(header(mtime=_DIGITS))
    yield layers(header(mtime=b"\x80" + b"\xff" * 11))
    yield layers(header(mtime=b"\xff\x7f" + bytes(10)))
