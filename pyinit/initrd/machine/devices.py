# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Block devices by node or by partition UUID, without udev: sysfs, devtmpfs, partition tables.

Where others run udev its links are taken too: whatever they lead to is verified all the same."""

import errno
import posix
import time

from pyinit.initrd.kernel import files, inode
from pyinit.initrd.machine import gpt
from pyinit.initrd.report.errors import Refused, os_error, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SYS = "/sys/class/block"
DEV = "/dev"

# Disks appear when their driver has probed them, and nothing ends with that. The kernel tells it
# by netlink, which needs sockets, which this interpreter is built without: so /sys is looked at
# again after this time, which costs less than a socket module in each initrd.
_POLL_SECONDS = 0.05
_FOR_EVER = 3600
EXPECTED = f"{DEV}/NAME, PARTUUID=, UUID=, LABEL=, PARTLABEL= or MAJOR:MINOR"
ALLOWED = "[device] discover = true in the configuration of this initrd"
_HEX = "0123456789abcdef"
# By which of udev's directories a file system or partition is found, and its name there.
_LINKS = {"UUID": "uuid", "LABEL": "label", "PARTLABEL": "partlabel"}
# What udev leaves as it is in the name of a link, besides letters and digits; UTF-8 too.
_PLAIN = "#+-.:=@_"


class NotFound(Refused):
    """The device was not there in time."""


def find(
    spec: str, seconds: int, each: "Callable[[], object] | None" = None, *, links: bool = False
) -> str:
    """The device node for `root=`: a path below /dev, or PARTUUID= in any case of letters.

    Waits up to `seconds` for it and calls `each` before every look but the first (to load drivers
    for what has appeared). `links`: udev runs; UUID=, LABEL=, PARTLABEL= and /dev/disk are its
    links. Refused("store", spec, …): another form, or there twice; NotFound.
    """
    if spec[:9].upper() == "PARTUUID=":
        return find_partition(spec[9:], seconds, each)
    path = spec
    key, _, value = spec.partition("=")
    if links and key in _LINKS:
        path = f"{DEV}/disk/by-{_LINKS[key]}/{_encode(value)}"
    if not spec:
        expected = f"root= with the disk of the store: {EXPECTED}; or {ALLOWED}"
        raise Refused("store", "kernel command line", "no root= on it", expected)
    name = path.removeprefix(f"{DEV}/")
    if name == path or {"", ".", ".."} & set(name.split("/")):
        raise Refused("store", spec, "a form that is not known here", EXPECTED)
    if name.startswith("disk/") and not links:
        raise Refused("store", spec, "a link that udev makes, and there is none here", EXPECTED)
    return wait(spec, seconds, each, lambda _: node(path))


def _encode(name: str) -> str:
    """As udev writes a label into the name of a link (udev_node_escape_path's \\x20 and so on)."""
    return "".join(
        character
        if character.isalnum() or character in _PLAIN or ord(character) > 0x7F
        else "".join(f"\\x{byte:02x}" for byte in character.encode())
        for character in name
    )


def patience(rootwait: list[str | None], rootdelay: list[str | None], configured: int) -> int:
    """Seconds to wait for the root device: the kernel's `rootwait` (for ever), `rootwait=N` and
    `rootdelay=N` where they stand on its command line, else as configured.

    The longest of them counts, and nobody waits for what is there. "For ever" is an hour here: a
    machine whose disk was stolen should come to the action that is configured for failures. A value
    that is no number is ignored.
    """
    seconds = configured
    for value in [*rootwait, *(value or "" for value in rootdelay)]:
        if value is None:
            seconds = max(seconds, _FOR_EVER)
        elif value.isascii() and value.isdigit() and len(value) <= 4:
            seconds = max(seconds, min(int(value), _FOR_EVER))
    return seconds


def find_partition(uuid: str, seconds: int, each: "Callable[[], object] | None" = None) -> str:
    """The device node of a partition: GPT's GUID, or `xxxxxxxx-nn` on an MBR disk."""
    spec = f"PARTUUID={uuid}"
    wanted = uuid.lower()
    if not _is_uuid(wanted):
        expected = "a UUID, or an 8-digit signature and 2 digits of hex; no /PARTNROFF"
        raise Refused("store", spec, "not a partition UUID", expected)
    return wait(spec, seconds, each, lambda problems: _partition(spec, wanted, problems))


def names() -> list[str]:
    """Block devices as sysfs names them; none where there is no sysfs."""
    try:
        return sorted(posix.listdir(SYS))
    except FileNotFoundError:
        return []


def disk_of(name: str) -> str:
    """The disk of a partition, by their names in sysfs; of what is no partition, or is gone, the
    name itself."""
    if uevent(name).get("DEVTYPE") != "partition":
        return name
    return posix.readlink(f"{SYS}/{name}").split("/")[-2]


def has_partitions(name: str) -> bool:
    """Has the kernel found partitions on that disk?"""
    try:
        return any(entry.startswith(name) for entry in posix.listdir(f"{SYS}/{name}"))
    except OSError:
        return False


def wait(
    spec: str,
    seconds: int,
    each: "Callable[[], object] | None",
    look: "Callable[[list[str]], str | None]",
) -> str:
    """What `look` finds; it gets a list for what hinders it. Waits as find() does. NotFound."""
    deadline = time.monotonic() + seconds
    found = look([])
    while found is None:
        if each is not None:
            each()
        problems: list[str] = []
        # The time first: what appeared up to it must still be found by the look after it.
        late = time.monotonic() >= deadline
        found = look(problems)
        if found is None:
            if late:
                there = ", ".join(names()) or "none"
                text = "; ".join([f"not found after {seconds} s", f"there are: {there}", *problems])
                raise NotFound("store", spec, text)
            time.sleep(_POLL_SECONDS)
    return found


def node(path: str) -> str | None:
    """The path, None where nothing is there. Refused("store"): no block device."""
    try:
        status = posix.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise Refused("store", path, os_error(error)) from None
    if inode.kind(status) != inode.BLOCK:
        raise Refused("store", path, "not a block device")
    return path


def _partition(spec: str, wanted: str, problems: list[str]) -> str | None:
    """One look at all partitions; what hinders it goes into `problems`."""
    tables: dict[str, dict[tuple[int, int], gpt.Entry]] = {}
    found: list[str] = []
    for name in names():
        event = uevent(name)
        if event.get("DEVTYPE") != "partition" or "DEVNAME" not in event:
            continue
        uuid = event.get("PARTUUID")  # Linux 6.13 and newer; what the kernel itself has read
        if uuid is None:
            try:
                disk = disk_of(name)
                if disk not in tables:
                    tables[disk] = {}  # one problem, one message
                    tables[disk] = table(disk)
                entry = tables[disk].get(place(name))
                uuid = entry.part_guid if entry else ""
            except OSError as error:
                problems.append(f"{name}: {os_error(error)}")
                continue
            except (IndexError, ValueError) as error:
                problems.append(f"{name}: {error}")
                continue
        if uuid.lower() == wanted:
            found.append(f"{DEV}/{event['DEVNAME']}")
    if len(found) > 1:
        raise Refused("store", spec, f"on {' and '.join(found)}", "one partition")
    # devtmpfs makes the node after sysfs shows the device.
    return node(found[0]) if found else None


def place(name: str) -> tuple[int, int]:
    """Number and start of a partition, as in table(). OSError, ValueError."""
    return _number(name, "partition"), _number(name, "start")


def table(disk: str) -> dict[tuple[int, int], gpt.Entry]:
    """The partitions by number and start (in 512-byte units, as sysfs has it). OSError,
    ValueError."""
    sector = _number(disk, "queue/logical_block_size")
    if sector not in gpt.SECTOR_SIZES:
        raise ValueError(f"{disk} has sectors of {sector} bytes")
    path = f"{DEV}/{uevent(disk).get('DEVNAME', disk)}"
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    try:
        data = posix.pread(fd, 2 * sector, 0)
        if gpt.is_gpt(data):
            header = gpt.header(data, sector)
            raw = posix.pread(fd, header.count * header.entry_size, header.offset)
            found = gpt.entries(header, raw)
        else:
            found = gpt.mbr(data)
            found += gpt.logical(data, lambda number: posix.pread(fd, 512, number * sector))
    finally:
        posix.close(fd)
    return {(entry.index, entry.first * (sector // 512)): entry for entry in found}


def uevent(name: str) -> dict[str, str]:
    """What the kernel says of a device; empty where it is gone again."""
    try:
        text = files.read(f"{SYS}/{name}/uevent", 4096).decode("utf-8", "surrogateescape")
    except OSError:
        return {}
    lines = [line.partition("=") for line in text.split("\n")]
    return {key: value for key, _, value in lines}


def _number(name: str, attribute: str) -> int:
    text = files.read(f"{SYS}/{name}/{attribute}", 64)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{attribute} is {printable(text.decode('latin-1'))}") from None


def _is_uuid(text: str) -> bool:
    groups = text.split("-")
    return [len(group) for group in groups] in ([8, 4, 4, 4, 12], [8, 2]) and all(
        digit in _HEX for group in groups for digit in group
    )
