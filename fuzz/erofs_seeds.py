# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for the reader of composefs images: one with everything, then each rule broken in it.

Without the zeros at the end, which the harness adds again.
"""

import stat
import struct
from collections.abc import Iterator

from tests.host.store.written import (
    ACCESS,
    CHUNKS,
    INLINE,
    PLAIN,
    SECURITY,
    SUPERBLOCK,
    TRUSTED,
    USER,
    Node,
    Xattr,
    changed,
    directory,
    image,
    inline,
    link,
    stored,
)  # fmt: skip

_A, _B, _C = "0a" * 32, "1b" * 32, "2c" * 64
_EDGES = (0, 1, 0x7F, 0xFF)


def erofs() -> list[bytes]:
    """Whole images, broken fields of one, and files too short."""
    found = [*_whole(), *_nodes(), *_xattrs(), *_directories(), *_as_writers_do()]
    found += _fields()
    found += [found[0][:size] for size in (0, 1, 16, 1023, 1024, 1100, 1152, 1160, 1200, 1300)]
    return [data.rstrip(b"\0") for data in found]


def _everything(blocks: bool) -> tuple[Node, list[Xattr]]:
    label = (SECURITY, b"selinux", b"system_u:object_r:bin_t:s0\0")
    file = stored(_A, nlink=2, shared=[0])
    whiteout = inline(b"", xattrs=[(TRUSTED, b"overlay.overlay.whiteout", b"")])
    deep = directory(
        (b"file", file), (b"-", inline(b"-")), (b" =\\\n\t\r\x01\x80", inline(b"x=\n"))
    )
    opaque = [
        (TRUSTED, b"overlay.opaque", b"x"),
        (TRUSTED, b"overlay.overlay.opaque", b"y"),
        (TRUSTED, b"overlay.overlay.whiteouts", b""),
        (USER, b"overlay.whiteouts", b""),
    ]
    root = directory(
        (b"00", Node(stat.S_IFCHR | 0o644)),
        (b"a", deep),
        (b"again", file),
        (b"block", Node(stat.S_IFBLK | 0o600, place=0x801, extended=True, owner=(70000, 70001))),
        (b"char", Node(stat.S_IFCHR | 0o600, place=0x103)),
        (b"empty", Node(stat.S_IFREG | 0o644, xattrs=[label, (ACCESS, b"", b"acl=")])),
        (b"fifo", Node(stat.S_IFIFO | 0o600)),
        (b"gone", whiteout),
        (b"large", stored(_C, size=1 << 41, algorithm=2, extended=True, mtime=(1 << 33, 5))),
        (b"link", link(b"a/file")),
        (b"old", directory(mtime=(1, 2), extended=True, xattrs=opaque)),
        (b"other", stored(_B, shared=[0, 1])),
        (b"socket", Node(stat.S_IFSOCK | 0o600)),
        *([(b"wide", directory((b"n" * 200, file), blocks=True))] if blocks else []),
    )
    return root, [label, (USER, b"mime", b"text/plain")]


def _whole() -> Iterator[bytes]:
    root, shared = _everything(blocks=True)
    yield image(root, shared)
    yield image(root, shared, version=1)
    yield image(directory())
    yield image(directory((b"a", stored(_A)), (b"b", stored(_A)), (b"c", stored(_B))))
    names = [(b"%04d" % i, inline(b"")) for i in range(300)]
    yield image(directory(*names, blocks=True))
    node = directory()
    for _ in range(40):
        node = directory((b"d", node))
    yield image(node)


def _as_writers_do() -> Iterator[bytes]:
    """What a text leaves out, since whoever makes the image gives it again: the order of inodes, by
    which one name of a hard link stands for it, and the marks of whiteouts."""
    hidden, file = Node(stat.S_IFCHR | 0o644, nlink=2), stored(_A, nlink=2)
    yield image(directory((b"a", file), (b"b", file)))
    yield image(directory((b"00", hidden), (b"01", hidden), (b"a", file), (b"b", file)))
    yield image(directory((b"00", hidden), (b"a", inline(b"x")), (b"b", file), (b"c", file)))
    gone = inline(
        b"", xattrs=[(TRUSTED, b"overlay.overlay.whiteout", b""), (USER, b"overlay.whiteout", b"")]
    )
    marks = [(TRUSTED, b"overlay.overlay.whiteouts", b""), (USER, b"overlay.whiteouts", b"")]
    marked = directory((b"gone", gone), (b"kept", inline(b"x")), xattrs=marks)
    yield image(marked)
    yield image(directory((b"d", marked), (b"e", directory(xattrs=marks)), (b"f", gone)))


def _one(node: Node, *shared: Xattr) -> bytes:
    return image(directory((b"a", node)), shared)


def _nodes() -> Iterator[bytes]:
    """Sizes, layouts and modes of one file."""
    for mode in (0, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, 0o170000, 0o30000):
        yield _one(Node(mode | 0o644, data=b"data", layout=INLINE))
        yield _one(Node(mode | 0o644, data=b"data", layout=CHUNKS))
    for layout in (*range(8), 16, 0x7FF):
        yield _one(Node(stat.S_IFREG | 0o644, data=b"data", layout=layout))
    for size in (0, 1, 4095, 4096, 5000, 5001, 8192, 1 << 20, 1 << 40, 1 << 63, (1 << 64) - 1):
        for layout in (PLAIN, INLINE, CHUNKS):
            node = Node(stat.S_IFREG | 0o644, data=b"da", layout=layout, size=size, extended=True)
            yield _one(node)
        node = Node(stat.S_IFLNK | 0o777, data=b"da", layout=INLINE, size=size, extended=True)
        yield _one(node)
        yield _one(Node(stat.S_IFDIR | 0o755, data=b"da", layout=PLAIN, size=size, extended=True))
    for place in (0, 1, 2, 31, 63, 64, 0xFFFF, 0xFFFFFFFF):
        yield _one(Node(stat.S_IFREG | 0o644, size=10, layout=PLAIN, place=place))
        yield _one(Node(stat.S_IFREG | 0o644, size=10, layout=CHUNKS, place=place))
    yield _one(link(b"a\0b"))
    yield _one(inline(b"x" * 1500))
    yield changed(_one(inline(b"x" * 100)), 1152 + 32 + 31, b"\xff")


def _xattrs() -> Iterator[bytes]:
    """Of one file in the store, and of one that has none."""
    digest = bytes.fromhex(_A)
    for value in (
        b"", b"\0\x04\0\0", b"\0\x24\0\1" + digest, b"\0\x24\0\2" + digest, b"\1\x24\0\1" + digest,
        b"\0\x24\1\1" + digest, b"\0\x23\0\1" + digest, b"\0\x44\0\2" + digest * 2, b"\0\1\0", b"x",
    ):  # fmt: skip
        yield _one(inline(b"", xattrs=[(TRUSTED, b"overlay.metacopy", value)]))
    for value in (
        b"", b"/", b"a", b"//a", b"/a/b", b"..", b"a/../b", b"a//b", b"a/.", b"a/b/", b"a\nb", b"-",
    ):  # fmt: skip
        yield _one(inline(b"", xattrs=[(TRUSTED, b"overlay.redirect", value)]))
        yield _one(directory(xattrs=[(TRUSTED, b"overlay.redirect", value)]))
    for kind in (*range(9), 0x80, 0xFF):
        for name in (b"", b"n", b"user.n", b"trusted.overlay.redirect", b"n\0", b"n" * 255):
            yield _one(inline(b"c", xattrs=[(kind, name, b"value")]))
    for name in (b"overlay.redirect", b"overlay.metacopy", b"overlay.overlay.whiteout", b"same"):
        yield _one(inline(b"", xattrs=[(TRUSTED, name, b"")] * 2))
        yield _one(inline(b"", xattrs=[(TRUSTED, name, b"")], shared=[0]), (TRUSTED, name, b""))
    yield _one(inline(b"content", xattrs=[(TRUSTED, b"overlay.overlay.whiteout", b"")]))
    yield _one(inline(b"", xattrs=[(USER, b"overlay.whiteout", b"")]))
    for count in (1, 2, 3, 0x10, 0xFFFF):
        yield _one(inline(b"", xattrs=[(USER, b"a", b"b")], fields={"xattr_count": count}))
    big = (USER, b"a" * 250, b"v" * 900)
    yield _one(inline(b"", shared=[0] * 60), big)
    yield _one(inline(b"", shared=list(range(60))), *((USER, b"%03d" % i, b"v" * 1200)
                                                       for i in range(60)))  # fmt: skip
    for number in range(8):
        broken = _one(inline(b"", shared=[0]), (USER, b"a", b"b"))
        yield changed(broken, 1152 + 32 + 64 + 32 + number, b"\xff")


def _directories() -> Iterator[bytes]:
    """Entries that are wrong."""
    file = inline(b"")
    for names in (
        (b"",), (b"/",), (b"a/b",), (b"n" * 255,), (b"n" * 256,), (b"b", b"a"), (b"a", b"a"),
        (b"...",), (b"!",), (b"n\0n",), (b"n\0n", b"o"),
    ):  # fmt: skip
        yield image(_raw([(name, file) for name in names], file))
    twice = directory((b"x", file))
    yield image(directory((b"a", twice), (b"b", twice)))
    root = directory((b"a", file))
    good = image(root)
    start = root.offset + 32
    for entry in range(3):
        for offset, size in ((0, 1), (1, 1), (7, 1), (8, 1), (9, 1), (10, 1)):
            for edge in (0, 1, 12, 35, 36, 37, 0x7F, 0xFF):
                yield changed(good, start + 12 * entry + offset, bytes([edge]) * size)
    node = file
    for _ in range(3):
        node = directory((b"d", node), blocks=True)
    shared = image(node)
    yield changed(shared, 1152 + 16, struct.pack("<I", 2))
    yield changed(shared, SUPERBLOCK + 36, struct.pack("<I", 2))


def _raw(entries: list[tuple[bytes, Node]], first: Node) -> Node:
    """A root with these names in this order, and no others."""
    number = (1152 + 32 + sum(12 + len(name) for name, _ in entries) + 31) // 32
    head, names = b"", b""
    for name, _ in entries:
        head += struct.pack("<QHBB", number, 12 * len(entries) + len(names), 1, 0)
        names += name
    root = directory((b"x", first))
    root.data = head + names
    return root


def _fields() -> Iterator[bytes]:
    """Each byte of the headers that means something, and of the inodes of the image with all."""
    root, shared = _everything(blocks=False)
    data = image(root, shared)
    offsets = [0, 4, 8, 12, SUPERBLOCK, *(SUPERBLOCK + at for at in (12, 14, 15, 32, 36, 37, 40, 41,
               44, 45, 80, 81))]  # fmt: skip
    for offset in offsets:
        for edge in _EDGES:
            yield changed(data, offset, bytes([edge]))
    for at in (0, 1, 2, 4, 5, 8, 9, 16):
        for edge in _EDGES[:2]:
            yield changed(data, root.offset + at, bytes([edge]))
    # The number of the root just behind the last one that the file has room for.
    yield changed(data, SUPERBLOCK + 14, struct.pack("<H", len(data) // 32))
