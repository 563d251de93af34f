# SPDX-License-Identifier: Apache-2.0 OR MIT
"""/proc/self/mountinfo, read back: what the kernel says is mounted (proc(5))."""

from pyinit.initrd.kernel import files

PATH = "/proc/self/mountinfo"
MAX = 64 * 1024 * 1024


class Mount:
    """One line of mountinfo."""

    __slots__ = (
        *("device", "fstype", "id", "options", "root", "source", "super_options", "target"),
    )

    def __init__(self, line: bytes) -> None:
        """ValueError: no line of mountinfo."""
        left, _, right = line.partition(b" - ")
        fields = left.split(b" ")
        tail = right.split(b" ")
        if len(fields) < 6 or len(tail) < 3:
            raise ValueError(line)
        self.id = int(fields[0])
        self.device = _text(fields[2])
        self.root = unescape(fields[3])  # what of the file system is mounted: not "/" for a bind
        self.target = unescape(fields[4])
        self.options = _text(fields[5]).split(",")
        self.fstype = unescape(tail[0])  # FUSE: any subtype
        self.source = unescape(tail[1])
        self.super_options = _text(tail[2]).split(",")


def parse(data: bytes) -> list[Mount]:
    """All mounts, in the kernel's order: what is mounted later at a path comes later."""
    return [Mount(line) for line in data.split(b"\n") if line]


def read() -> list[Mount]:
    """Those of this process's mount namespace, below its root."""
    return parse(files.read(PATH, MAX))


def mount_id(fd: int) -> int:
    """The id of the mount that a descriptor lies on (the line mnt_id of its fdinfo)."""
    for line in files.read(f"/proc/self/fdinfo/{fd}", 65536).split(b"\n"):
        key, _, value = line.partition(b":")
        if key == b"mnt_id":
            return int(value)
    raise ValueError(f"no mnt_id for descriptor {fd}")


def of(fd: int) -> Mount | None:
    """The mount that a descriptor lies on, or None where it is attached nowhere here."""
    return find(files.read(PATH, MAX), mount_id(fd))


def find(data: bytes, wanted: int) -> Mount | None:
    """The mount with that id. Of the other lines, of which there may be thousands, nothing is made.

    ValueError: its line is none of mountinfo.
    """
    start = data.find(b"%d " % wanted)
    while start > 0 and data[start - 1 : start] != b"\n":
        start = data.find(b"%d " % wanted, start + 1)
    return None if start < 0 else Mount(data[start:].partition(b"\n")[0])


def unescape(field: bytes) -> str:
    r"""Space, tab, newline, backslash and # stand as \040, \011, \012, \134 and \043."""
    parts = field.split(b"\\")
    out = parts[0]
    for part in parts[1:]:
        out += bytes([int(part[:3], 8)]) + part[3:]
    return _text(out)


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")
