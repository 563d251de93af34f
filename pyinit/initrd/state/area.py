# SPDX-License-Identifier: Apache-2.0 OR MIT
"""State on the root file system: found without following a link, created, image files attached.

An entry is a directory or btrfs subvolume, or an image file with a file system in it. For a bind it
is what will be seen; for an overlay it has the directories `upper` and `work`, as in composefs-rs.
"""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import files, filesystem, inode, mounting
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report.errors import CfsError, Refused, failure, os_error
from pyinit.initrd.root.stage import Stage
from pyinit.initrd.source.config import DIGEST, Config
from pyinit.initrd.state import copying, image_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FAULTS = {
    errno.ELOOP: "a symbolic link, and none is followed",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
}


class Entry:
    """State found or made. `fd` is a directory; `kind` says what it lies in."""

    __slots__ = ("created", "fd", "kind", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self.kind = "directory"
        self.created = False


class Area:
    """The state of one image."""

    __slots__ = ("_digest", "_modules", "_settings", "_stage")

    def __init__(
        self, stage: Stage, settings: Config, digest: str, modules: Modules | None
    ) -> None:
        """`digest` is what stands for {digest} in paths."""
        self._stage = stage
        self._settings = settings
        self._digest = digest
        self._modules = modules

    def look(self, template: str, names: tuple[str, ...], linked: bool = False) -> None:
        """Refused where what is there could not be used: before any of it is changed.

        `names` are directories in it; those that are missing are made later.
        """
        entry = Entry(template.replace(DIGEST, self._digest))
        refuse = self._settings.state_missing == "refuse"
        try:
            if linked:
                entry.path = _shared(self._stage.base, entry.path)
            relative = entry.path.lstrip("/")
            entry.fd = _cfs.open_beneath(self._stage.base, relative, posix.O_PATH)
            if _kind(entry) == inode.REGULAR:
                image = _cfs.open_beneath(self._stage.base, relative, posix.O_RDONLY)
                self._file_system(entry.path, image)
                return
            for name in names:
                if _exists(entry.fd, name):
                    _cfs.open_beneath(entry.fd, name, _DIRECTORY)
        except FileNotFoundError as error:
            if refuse:
                raise _refused(entry.path, error) from None
        except OSError as error:
            raise _refused(entry.path, error) from None

    def look_fresh(self, template: str) -> None:
        """The same for the place of fresh(), which is made where it is missing."""
        path = self._fresh(template)
        try:
            relative = path.lstrip("/")
            parent = _cfs.open_beneath(self._stage.base, relative, _DIRECTORY)
            _cfs.open_beneath(parent, _boot(), _DIRECTORY)  # there after a soft reboot
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refused(path, error) from None

    def bind(self, template: str, image: int, linked: bool = False) -> Entry:
        """The entry to bind over the image's directory `image`; a new one begins as its copy.

        `linked`: the path may end with bootc's link to a /var that its deployments share.
        """
        return self._find(template, lambda new: copying.tree(_path(image), new), linked)

    def layers(self, template: str, image: int) -> tuple[Entry, int, int]:
        """The entry, upper and work directory of an overlay above the image's directory `image`."""
        entry = self._find(template, lambda new: copying.attributes(_path(image), new))
        refuse = self._settings.state_missing == "refuse"
        try:
            if not _exists(entry.fd, "upper"):
                if refuse:
                    raise Refused("state", entry.path + "/upper", "missing", "a directory")
                _create(entry.fd, "upper", lambda new: copying.attributes(_path(image), new))
            if not _exists(entry.fd, "work"):
                _create(entry.fd, "work", _nothing)
            upper = _cfs.open_beneath(entry.fd, "upper", _DIRECTORY)
            work = _cfs.open_beneath(entry.fd, "work", _DIRECTORY)
        except OSError as error:
            raise _refused(entry.path, error) from None
        return entry, upper, work

    def fresh(self, template: str, image: int) -> Entry:
        """A directory of this boot's own, at first empty; those of earlier boots are left to who
        hands the root over.

        By the boot's id and not by removing first: after a soft reboot the old one is in use. A
        later root of the same boot whose path is the same gets what the first one has left there.
        """
        entry = Entry(self._fresh(template))
        name = _boot()
        try:
            parent = _make_directories(self._stage.disk(), entry.path)
            copying.own(parent, 0o755)  # ours alone, whoever has prepared it
            self._stage.leftovers = parent, name
            if not _exists(parent, name):
                _create(parent, name, lambda new: copying.attributes(_path(image), new))
                entry.created = True
            entry.fd = _cfs.open_beneath(parent, name, _DIRECTORY)
        except OSError as error:
            raise _refused(entry.path, error) from None
        entry.path += "/" + name
        return entry

    def _fresh(self, template: str) -> str:
        return template.replace(DIGEST, self._digest) + ".transient"

    def _find(self, template: str, fill: "Callable[[str], None]", linked: bool = False) -> Entry:
        entry = Entry(template.replace(DIGEST, self._digest))
        disk = self._stage.disk()
        try:
            if linked:
                entry.path = _shared(disk, entry.path)
            relative = entry.path.lstrip("/")
            try:
                entry.fd = _cfs.open_beneath(disk, relative, posix.O_PATH)
            except FileNotFoundError:
                if self._settings.state_missing == "refuse":
                    raise
                parent, _, name = relative.rpartition("/")
                _create(_make_directories(disk, parent), name, fill)
                entry.created = True
                entry.fd = _cfs.open_beneath(disk, relative, posix.O_PATH)
            if _kind(entry) == inode.REGULAR:
                entry.fd = self._attach(entry, _cfs.open_beneath(disk, relative, posix.O_RDWR))
        except OSError as error:
            raise _refused(entry.path, error) from None
        return entry

    def _attach(self, entry: Entry, image: int) -> int:
        """The root of the file system in an image file, grown as configured."""
        entry.kind = "image file"
        kind = self._file_system(entry.path, image)
        if self._modules is not None:
            self._modules.load_filesystem(kind, "state")
        grow = self._settings.state_grow
        if posix.fstat(image).st_size < grow:
            posix.ftruncate(image, grow)
        try:
            loop = _cfs.loop_attach(image, True)
        except OSError as error:
            expected = "an image file that nobody else has attached"
            found = f"loop device: {os_error(error)}"
            raise Refused("state", entry.path, found, expected) from None
        device = posix.readlink(f"/proc/self/fd/{loop}")
        attributes = mounting.NODEV | mounting.NOSUID
        try:
            mount = _cfs.fs_mount(kind, [("source", device)], attributes)
        except OSError as error:
            raise mounting.mount_refused(kind, entry.path, error) from None
        self._stage.bring_in(mount)
        root = posix.open(".", _DIRECTORY, dir_fd=mount)
        if grow:
            # each time, not only where the file was short: the last boot may have ended between
            size = posix.fstat(image).st_size
            try:
                _cfs.filesystem_grow(root, size)
            except OSError as error:
                found = f"its {kind} cannot be grown to {size} bytes: {os_error(error)}"
                raise Refused("state", entry.path, found) from None
        posix.close(image)
        return root

    def _file_system(self, path: str, image: int) -> str:
        """That in an image file. A file may have holes, and fills the disk when these are written
        to. One that could never be filled is nobody's state."""
        data = posix.pread(image, image_file.NEEDED, 0)
        kinds = filesystem.detect(data)
        if kinds not in (["ext4"], ["btrfs"]):
            found = " and ".join(kinds) or "no known file system"
            raise Refused("state", path, found, "ext4 or btrfs in the image file")
        fault = image_file.fault(kinds[0], data)
        if fault is not None:
            expected = "a file system that is whole in the image file"
            raise Refused("state", path, f"{kinds[0]}: {fault}", expected)
        disk = posix.fstatvfs(self._stage.base)
        most = max(disk.f_blocks * disk.f_frsize, self._settings.state_grow)
        size = posix.fstat(image).st_size
        if size > most:
            largest = f"at most {most}, as large as the disk"
            raise Refused("state", path, f"an image file of {size} bytes", largest)
        return kinds[0]


def _kind(entry: Entry) -> int:
    """A directory or a file. Refused: anything else."""
    kind = inode.kind(posix.fstat(entry.fd))
    if kind not in (inode.DIRECTORY, inode.REGULAR):
        expected = "a directory, or an image file"
        raise Refused("state", entry.path, "neither directory nor file", expected)
    return kind


def _shared(disk: int, path: str) -> str:
    """The path that bootc's link at `path`, `../../os/NAME/var`, leads to; `path` where none is.

    Its words are taken and no link is followed: one to elsewhere, or a second one, is refused.
    """
    parent, _, name = path.lstrip("/").rpartition("/")
    above = parent.split("/")[:-2]
    try:
        directory = _cfs.open_beneath(disk, parent or ".", posix.O_PATH)
        try:
            target = posix.readlink(name, dir_fd=directory)
        finally:
            posix.close(directory)
    except OSError:
        return path  # no link; and if something is wrong there, opening the path tells it
    parts = target.split("/")
    shape = [*parts[:3], *parts[4:]] == ["..", "..", "os", "var"]
    if not (above and shape) or parts[3] in ("", ".", ".."):
        expected = "../../os/NAME/var beneath the state, or a directory"
        raise Refused("state", path, f"a symbolic link to {target!r}", expected)
    return "/".join(("", *above, *parts[2:]))


def _boot() -> str:
    """The id of this boot, a soft reboot included."""
    return files.read(_BOOT_ID, 64).decode("ascii").strip()


def _path(fd: int, name: str = ".") -> str:
    return f"/proc/self/fd/{fd}/{name}"


def _exists(parent: int, name: str) -> bool:
    try:
        posix.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _nothing(_new: str) -> None:
    pass


def _make_directories(disk: int, path: str) -> int:
    """The directory at `path`, made where it is missing, each on the way no link."""
    fd = disk
    for part in path.split("/"):
        if part:
            if not _exists(fd, part):
                copying.make_directory(_path(fd, part))
                posix.chmod(part, 0o755, dir_fd=fd)
            fd = _cfs.open_beneath(fd, part, _DIRECTORY)
    return fd


def _create(parent: int, name: str, fill: "Callable[[str], None]") -> None:
    """A directory that is there whole, with what `fill` does to it, or not at all.

    Made under another name, written to the disk, renamed: a power cut or a full disk in between
    leaves what was there before.
    """
    new = _path(parent, name + ".cfs-new")
    copying.remove(new)
    directory = posix.open(_path(parent), _DIRECTORY)
    try:
        copying.make_directory(new)
        fill(new)
        _cfs.filesystem_sync(directory)
        posix.rename(new, _path(parent, name))
        _cfs.filesystem_sync(directory)
    except OSError:
        copying.remove(new)
        raise
    finally:
        posix.close(directory)


def _refused(path: str, error: OSError) -> CfsError:
    if error.errno in _FAULTS:
        return Refused("state", path, f"{_FAULTS[error.errno]}: {os_error(error)}")
    expected = "state that is there (state-missing=refuse)" if error.errno == errno.ENOENT else ""
    return failure("state", path, error, expected)
