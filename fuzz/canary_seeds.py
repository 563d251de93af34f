# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for the search in an image: trees with the file at each place, then each rule broken.

Without the zeros at the end: the harness has the data with zeros behind it, and without.
"""

import stat
import struct
from collections.abc import Iterator

from tests.host.store.written import (
    CHUNKS,
    INLINE,
    PLAIN,
    SECURITY,
    SUPERBLOCK,
    TRUSTED,
    USER,
    Node,
    changed,
    directory,
    image,
    inline,
    stored,
)  # fmt: skip

_A = "0a" * 32
LARGE = 16 << 20
_METACOPY = (TRUSTED, b"overlay.metacopy", b"")
_LABEL = (SECURITY, b"selinux", b"system_u:object_r:bin_t:s0\0")
_EDGES = (0, 1, 12, 35, 36, 37, 0x7F, 0xFF)


def canary() -> list[bytes]:
    found = [*_trees(), *_xattrs(), *_inodes(), *_entries(), *_super()]
    return [data.rstrip(b"\0") for data in found]


def _trees() -> Iterator[bytes]:
    yield image(directory())
    yield image(directory((b"file", stored(_A))))
    yield image(directory((b"a", directory()), (b"b", directory((b"c", stored(_A))))))
    far = directory((b"c", directory((b"f", stored(_A)))))
    near = directory((b"d", directory()))
    yield image(directory((b"a", far), (b"b", near), (b"f", inline(b"x"))))
    for size in (LARGE, LARGE + 1, 1 << 40):
        large = stored(_A, size=size, extended=True)
        yield image(directory((b"a", large)))
        yield image(directory((b"a", large), (b"b", large)))
        yield image(directory((b"a", large), (b"d", directory((b"small", stored(_A))))))
    names = [(b"%04d" % number, inline(b"")) for number in range(300)]
    yield image(directory(*names, (b"z", stored(_A)), blocks=True))
    hidden = [(b"%02x" % number, Node(stat.S_IFCHR | 0o644)) for number in range(256)]
    yield image(directory(*hidden, (b"usr", directory((b"f", stored(_A)))), blocks=True))
    for depth in (60, 126, 127, 128):
        yield image(deep(b"d", depth))
    yield image(deep(b"d" * 255, 14))
    yield image(deep(b"d" * 255, 17))


def deep(name: bytes, depth: int) -> Node:
    node = directory((b"f", stored(_A)))
    for _ in range(depth):
        node = directory((name, node))
    return node


def _xattrs() -> Iterator[bytes]:
    """Where the one that counts is, and what is like it."""
    for shared in ([_METACOPY], [_LABEL, _METACOPY], [_LABEL]):
        yield image(directory((b"f", inline(b"", shared=range(len(shared))))), shared)
    for kind, name in (
        (USER, b"overlay.metacopy"), (TRUSTED, b"overlay.metacopi"), (TRUSTED, b"overlay.opaque"),
        (0x84, b"overlay.metacopy"),
    ):  # fmt: skip
        yield image(directory((b"f", inline(b"", xattrs=[(kind, name, b"v")]))))
    yield image(directory((b"f", inline(b"", xattrs=[_LABEL, (USER, b"a", b""), _METACOPY]))))
    for count in (1, 2, 3, 0x10, 0x3FFC, 0x3FFD, 0xFFFF):
        yield _one(inline(b"", xattrs=[_LABEL], fields={"xattr_count": count}))
    broken = image(directory((b"f", inline(b"", shared=[0]))), [_METACOPY])
    for number in range(16):
        yield changed(broken, broken.rindex(b"overlay.metacopy") - 4 - number, b"\xff")


def _one(node: Node) -> bytes:
    return image(directory((b"a", node)))


def _inodes() -> Iterator[bytes]:
    for mode in (0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, 0o170000):
        root = directory((b"a", directory()), (b"b", stored(_A)))
        data = image(root)
        for node in (root, root.entries[0][1], root.entries[1][1]):
            yield changed(data, node.offset + 4, struct.pack("<H", mode))
    for layout in (PLAIN, 1, INLINE, 3, CHUNKS, 7):
        yield _one(directory((b"f", stored(_A)), layout=layout))
    for size in (0, 1, 11, 12, 4096, 65536, 1 << 40, (1 << 64) - 1):
        for layout in (PLAIN, INLINE):
            yield _one(Node(stat.S_IFDIR, data=b"da", layout=layout, size=size, extended=True))
    for place in (0, 1, 2, 31, 0xFFFFFFFF):
        blocks = directory((b"f", stored(_A)), blocks=True)
        data = image(directory((b"d", blocks)))
        yield changed(data, blocks.offset + 16, struct.pack("<I", place))
    across = image(directory((b"d", directory((b"f", stored(_A))))))
    yield changed(across, 1152 + 8, struct.pack("<I", 4000))
    # A directory that lies in itself, once and twice.
    root = directory((b"a", directory()), (b"b", directory()))
    data = image(root)
    entry = data.index(struct.pack("<Q", root.entries[0][1].nid), root.offset + 32)
    own = struct.pack("<Q", root.nid)
    yield changed(data, entry, own)
    for number in range(4):
        data = changed(data, root.offset + 32 + 12 * number, own)
    yield data


def _entries() -> Iterator[bytes]:
    root = directory((b"a", stored(_A)), (b"b", directory()))
    good = image(root)
    start = root.offset + 32
    for entry in range(4):
        for offset in (0, 1, 7, 8, 9, 10):
            for edge in _EDGES:
                yield changed(good, start + 12 * entry + offset, bytes([edge]))
    for name in (b"", b"/", b"a/b", b"n" * 255, b"n" * 256, b"...", b"n\0n", b".", b".."):
        root = directory((b"x", stored(_A)))
        image(root)  # says where
        where = struct.pack("<Q", root.entries[0][1].nid)
        root.data = where + struct.pack("<HBB", 12, 1, 0) + name
        yield image(root)
        root.data = b"".join(
            where + struct.pack("<HBB", 24 + at * len(name), 1, 0) for at in range(2)
        ) + name + name  # fmt: skip
        yield image(root)


def _super() -> Iterator[bytes]:
    data = image(directory((b"a", directory((b"f", stored(_A)))), (b"b", inline(b"x"))))
    for at in (0, 12, 14, 15, 36, 40, 41, 44, 80, 81, 83):
        for edge in (*_EDGES, 9, 10, 13, 16, 17, 0x3F, 0x40, 0x80):
            yield changed(data, SUPERBLOCK + at, bytes([edge]))
    yield changed(data, SUPERBLOCK + 14, struct.pack("<H", len(data) // 32))
    yield from (data[:size] for size in (0, 1, 1024, 1151, 1152, 1180, 1200, 1300))
