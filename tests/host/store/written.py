# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Composefs images written by hand, so that each field can be wrong: small ones, of one block size.

Format: Linux fs/erofs/erofs_fs.h; xattrs: Linux fs/overlayfs, composefs.
"""

import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BLOCK = 4096
PLAIN, INLINE, CHUNKS = 0, 2, 4
USER, ACCESS, TRUSTED, SECURITY = 1, 2, 4, 6
SUPERBLOCK, FIRST_INODE = 1024, 1152
BUILD_TIME = 1_700_000_000
_TYPES = (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK,
          stat.S_IFLNK)  # fmt: skip

Xattr = tuple[int, bytes, bytes]
"""Kind, name without the prefix of the kind, value."""


@dataclass(eq=False)
class Node:
    """An inode. `data` is its tail, of a directory what its entries make."""

    mode: int
    data: bytes = b""
    entries: Sequence[tuple[bytes, "Node"]] = ()
    xattrs: Sequence[Xattr] = ()
    shared: Sequence[int] = ()
    size: int | None = None
    layout: int | None = None
    place: int = 0
    extended: bool = False
    blocks: bool = False
    """A directory's data in blocks, and not behind the inode."""
    nlink: int = 1
    owner: tuple[int, int] = (0, 0)
    mtime: tuple[int, int] = (0, 0)
    offset: int = 0
    """Where it was written."""
    fields: Mapping[str, int] = field(default_factory=dict)
    """format, xattr_count: other ones than the right ones."""

    @property
    def nid(self) -> int:
        return self.offset // 32


def directory(*entries: tuple[bytes, Node], **more: object) -> Node:
    return Node(stat.S_IFDIR | 0o755, entries=entries, **more)  # type: ignore[arg-type]


def inline(content: bytes, **more: object) -> Node:
    return Node(stat.S_IFREG | 0o644, data=content, layout=INLINE, **more)  # type: ignore[arg-type]


def link(target: bytes, **more: object) -> Node:
    return Node(stat.S_IFLNK | 0o777, data=target, layout=INLINE, **more)  # type: ignore[arg-type]


def redirect(digest: str, algorithm: int = 1) -> list[Xattr]:
    """What mkcomposefs gives a file whose content is in the store."""
    raw = bytes.fromhex(digest)
    return [
        (TRUSTED, b"overlay.metacopy", bytes([0, 4 + len(raw), 0, algorithm]) + raw),
        (TRUSTED, b"overlay.redirect", f"/{digest[:2]}/{digest[2:]}".encode()),
    ]


def stored(digest: str, size: int = 10000, algorithm: int = 1, **more: object) -> Node:
    xattrs = redirect(digest, algorithm)
    about = {"data": b"\xff" * 4, "layout": CHUNKS, "xattrs": xattrs, **more}
    file = Node(stat.S_IFREG | 0o644, **about)  # type: ignore[arg-type]
    file.size, file.place = size, 31
    return file


def xattr(entry: Xattr) -> bytes:
    kind, name, value = entry
    head = struct.pack("<BBH", len(name), kind, len(value))
    return _padded(head + name + value, 4)


def image(root: Node, shared: Sequence[Xattr] = (), version: int = 0) -> bytes:
    """With the inodes where `Node.offset` says afterwards."""
    nodes: list[Node] = []
    _collect(root, nodes)
    position = FIRST_INODE
    for node in nodes:
        position += -position % 32
        start = _head_size(node)
        tail = len(_tail(node, root))
        while tail and (position + start) % BLOCK + tail > BLOCK:
            position += 32
        node.offset = position
        position += start + tail
    shared_at = position + -position % 4
    shared_block = shared_at // BLOCK
    area = bytearray()
    places = []
    for entry in shared:
        places.append((shared_at - shared_block * BLOCK + len(area)) // 4)
        area += xattr(entry)
    end = shared_at + len(area)
    data_block = (end + BLOCK - 1) // BLOCK
    out = bytearray(data_block * BLOCK)
    out[shared_at:end] = area
    for node in nodes:
        content = _content(node, root)
        if node.blocks:
            node.place = len(out) // BLOCK
            out += _padded(content, BLOCK)
        raw = _inode(node, len(content), places) + _tail(node, root)
        out[node.offset : node.offset + len(raw)] = raw
    struct.pack_into("<IIII", out, 0, 0xD078629A, 1, 0, version)
    struct.pack_into(
        "<IIIBBHQQIIII", out, SUPERBLOCK, 0xE0F5E1E2, 0, 6, 12, 0, root.nid, len(nodes), BUILD_TIME,
        7, len(out) // BLOCK, 0, shared_block,
    )  # fmt: skip
    struct.pack_into("<I", out, SUPERBLOCK + 80, 4)
    return bytes(out)


def changed(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


def _padded(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)


def _collect(node: Node, nodes: list[Node]) -> None:
    if node in nodes:
        return
    nodes.append(node)
    for _, child in node.entries:
        _collect(child, nodes)


def _xattr_bytes(node: Node) -> bytes:
    return b"".join(map(xattr, node.xattrs))


def _head_size(node: Node) -> int:
    size = 64 if node.extended else 32
    if node.xattrs or node.shared:
        size += 12 + 4 * len(node.shared) + len(_xattr_bytes(node))
    return size


def _content(node: Node, root: Node) -> bytes:
    if not stat.S_ISDIR(node.mode) or node.data:
        return node.data
    all_entries = [(b".", node), (b"..", _parent(node, root)), *node.entries]
    blocks, some = [], list[tuple[bytes, Node]]()
    for entry in sorted(all_entries, key=lambda entry: entry[0]):
        if sum(12 + len(name) for name, _ in [*some, entry]) > BLOCK:
            blocks.append(entries(some))
            some = []
        some.append(entry)
    return b"".join(_padded(block, BLOCK) for block in blocks) + entries(some)


def entries(named: Sequence[tuple[bytes, Node]]) -> bytes:
    """A block of a directory."""
    head, names = b"", b""
    for name, node in named:
        kind = _TYPES.index(stat.S_IFMT(node.mode)) if stat.S_IFMT(node.mode) in _TYPES else 0
        head += struct.pack("<QHBB", node.nid, 12 * len(named) + len(names), kind, 0)
        names += name
    return head + names


def _parent(node: Node, root: Node) -> Node:
    todo = [root]
    while todo:
        candidate = todo.pop()
        for _, child in candidate.entries:
            if child is node:
                return candidate
            if child.entries:
                todo.append(child)
    return root


def _tail(node: Node, root: Node) -> bytes:
    return b"" if node.blocks else _content(node, root)


def _inode(node: Node, length: int, places: Sequence[int]) -> bytes:
    layout = node.layout
    if layout is None:
        layout = PLAIN if node.blocks or not length else INLINE
    form = node.fields.get("format", layout << 1 | node.extended)
    xattrs = b""
    if node.xattrs or node.shared:
        xattrs = struct.pack("<IB7x", 0, len(node.shared))
        xattrs += b"".join(struct.pack("<I", places[index]) for index in node.shared)
        xattrs += _xattr_bytes(node)
    count = node.fields.get("xattr_count", (len(xattrs) - 12) // 4 + 1 if xattrs else 0)
    size = length if node.size is None else node.size
    uid, gid = node.owner
    if node.extended:
        head = struct.pack("<HHHHQIIIIqII16x", form, count, node.mode, 0, size, node.place, 1, uid,
                           gid, *node.mtime, node.nlink)  # fmt: skip
    else:
        head = struct.pack("<HHHHIIIIHHI", form, count, node.mode, node.nlink, size, 0, node.place,
                           1, uid, gid, 0)  # fmt: skip
    return head + xattrs
