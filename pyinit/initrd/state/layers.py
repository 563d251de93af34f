# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is laid over the sealed root: /etc, /var, the root itself, and the disk at /sysroot."""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import mountinfo, mounting, selinux
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import Refused, Step, failure, os_error
from pyinit.initrd.root import compose, existing
from pyinit.initrd.root.stage import Stage
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import copying
from pyinit.initrd.state.area import Area, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyinit.initrd.handover import status

_DIRECTORY = posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_SECURE = mounting.NODEV | mounting.NOSUID


class MemoryLayers:
    """Upper layers of the root in memory, made when compose() has its lower one."""

    __slots__ = ("_size", "_stage")

    def __init__(self, stage: Stage, size: str) -> None:
        self._stage = stage
        self._size = size

    def __call__(self, lower: int) -> tuple[int, int]:
        """Descriptors of the upper and the work directory. CfsError: no memory for them."""
        with Step("state", "/"):
            return _memory(self._stage, "root", self._size, lower)


def root_layers(stage: Stage, settings: Config) -> MemoryLayers | None:
    """What makes the root writable; None: it is sealed."""
    return None if settings.root == "sealed" else MemoryLayers(stage, settings.root_size)


def check_memory(settings: Config) -> None:
    """Refused("state"): something is to be kept on a disk, and the root needs none."""
    for name, mode in (("etc", settings.etc), ("var", settings.var)):
        if mode in ("bind", "overlay", "transient-disk"):
            expected = "transient or none: the objects of the root lie in the initrd"
            raise Refused("state", f"/{name}", f"mount = {mode!r}, on a disk", expected)


class State:
    """Lays directories over a composed root that is still in the stage.

    They are attached to the topmost root, the very mount that is handed over. `places` says, for
    those on the disk, where.
    """

    __slots__ = ("_area", "_root", "_settings", "_stage", "places")

    def __init__(
        self,
        stage: Stage,
        root: compose.Root,
        settings: Config,
        modules: Modules | None = None,
    ) -> None:
        self._stage = stage
        self._root = root
        self._settings = settings
        self._area = Area(stage, settings, root.image.digest.hex, modules)
        self.places: dict[str, status.Value] = {}

    def look(self) -> None:
        """Refused where one of the two could not be laid over: before anything is made for the
        other."""
        settings = self._settings
        for name, mode, template in (
            ("etc", settings.etc, settings.state_etc),
            ("var", settings.var, settings.state_var),
        ):
            if mode not in ("bind", "overlay", "transient-disk"):
                continue
            with Step("state", f"/{name}"):
                mount_point(self._root, name)
                if mode == "transient-disk":
                    self._area.look_fresh(template)
                else:
                    names = ("upper", "work") if mode == "overlay" else ()
                    self._area.look(template, names, self._linked(name, mode))

    def _linked(self, name: str, mode: str) -> bool:
        return name == "var" and mode == "bind" and self._settings.profile == "bootc"

    def etc(self) -> str:
        """Lays /etc over the root. Returns the mode, for the status record."""
        mode = self._settings.etc
        with Step("state", "/etc"):
            if mode == "transient":
                return self._transient_etc()
            return self._lay("etc", mode, self._settings.state_etc)

    def var(self) -> str:
        """Lays /var over the root. Returns the mode, for the status record."""
        mode = self._settings.var
        with Step("state", "/var"):
            if mode == "transient":
                point = mount_point(self._root, "var")
                _attach(_tmpfs("var", self._settings.var_size), point, "var")
                return "tmpfs"
            return self._lay("var", mode, self._settings.state_var)

    def _lay(self, name: str, mode: str, template: str) -> str:
        if mode == "none":
            return mode
        point = mount_point(self._root, name)
        if mode == "overlay":
            entry, upper, work = self._area.layers(template, point)
            mount, layered = self._stack(name, point, entry, (upper, work))
            _attach(mount, point, name)
            _check_stacked(mount, f"/{name}")
            if layered:
                compose.check_options(mount, self._root.image, f"/{name}")
        else:
            if mode == "transient-disk":
                entry = self._area.fresh(template, point)
            else:
                entry = self._area.bind(template, point, self._linked(name, mode))
            _attach(_bound(entry), point, name)
        self.places[name] = {"path": entry.path, "kind": entry.kind, "created": entry.created}
        return mode

    def _stack(
        self, name: str, lower: int, entry: Entry, layers: tuple[int, int]
    ) -> tuple[int, bool]:
        """An overlay above the composed root; does it lie on the layers of that one?

        Who has the disk may have written its upper layer. So redirects and metacopies in it are not
        followed. Older kernels (6.12) take no data-only layers together with that: the lower layer
        is the composed directory then. On the layers it leaves a level of stacking free. Whether
        its directories are in use the kernel says of the other kind only, so that one comes first.
        Refused("state"): the kernel does not mount it.
        """
        what = f"cfs-{name}", layers, existing.paths(layers)
        try:
            mount = _over(*what, (lower, -1))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise mounting.mount_refused("state", entry.path, error) from None
            running = self._running(name, layers[0])
            if running >= 0:
                return running, False
            expected = "directories that no other overlay is using"
            raise Refused("state", entry.path, os_error(error), expected) from None
        root = self._root
        under = posix.open(name, posix.O_RDONLY | _DIRECTORY, dir_fd=root.lower), root.objects
        try:
            # not with the upper layer, which the other one holds
            posix.close(_over(what[0], (-1, -1), (), under))
        except OSError:
            return mount, False
        posix.close(mount)
        try:
            return _over(*what, under), True
        except OSError as error:
            raise mounting.mount_refused("state", entry.path, error) from None

    def _running(self, name: str, upper: int) -> int:
        """A clone of the running system's overlay with this upper directory; -1: there is none.

        For a soft reboot into the image that runs. That overlay is in use as long as its root is,
        and what lies below it is the same.
        """
        root = existing.at("/")
        if root is None or root.digest != self._root.image.digest:
            return -1
        directory = posix.open(name, _DIRECTORY, dir_fd=root.directory)
        mount = mountinfo.of(directory)
        ours = "overlay", "/", f"cfs-{name}"
        if mount is None or (mount.fstype, mount.root, mount.source) != ours:
            return -1
        if existing.layer(mount, "upperdir") != existing.name(upper):
            return -1
        return _cfs.mount_clone(directory, False)

    def _transient_etc(self) -> str:
        """An overlay of the image's /etc and a tmpfs: writable, forgotten at the next boot.

        Its layers are those of the root, not the root itself: an overlay on an overlay on a
        file-backed EROFS is too deep for some kernels (seen with 6.12.63 and 6.18.3: EINVAL).
        """
        root = self._root
        point = mount_point(root, "etc")
        lower = posix.open("etc", posix.O_RDONLY | _DIRECTORY, dir_fd=root.lower)
        upper = _memory(self._stage, "etc", self._settings.etc_size, lower)
        layers = (lower, root.objects)
        mount = compose.mount_overlay("/etc", root.image, layers, upper, _SECURE, source="cfs-etc")
        _attach(mount, point, "etc")
        compose.check_options(mount, root.image, "/etc")
        return "transient"


def mount_point(root: compose.Root, name: str) -> int:
    """Descriptor of a directory of the composed root. Refused("state"): the image lacks it."""
    try:
        return posix.open(name, posix.O_PATH | _DIRECTORY, dir_fd=root.mount)
    except OSError as error:
        raise failure("state", f"/{name}", error, "a directory in the image") from None


def bind_usr(root: compose.Root, settings: Config) -> None:
    """/usr of a root in memory as a mount of its own, where SELinux is on.

    systemd gives `/` its label there (handover/relabel.py), and with it all that lies on that
    mount: each label of /usr, right as they are, would be copied up into memory. The bind is of the
    root's own directory, so nothing can be seen in it that was not there.
    """
    if settings.root == "sealed" or not selinux.is_on():
        return
    with Step("state", "/usr"):
        try:
            usr = posix.open("usr", _DIRECTORY, dir_fd=root.mount)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise
        try:
            mount = _cfs.mount_clone(usr, False)
        except OSError as error:
            raise mounting.mount_refused("bind", "/usr", error) from None
        _attach(mount, usr, "usr")


def hide_other_extensions(root: compose.Root, settings: Config) -> None:
    """systemd-sysext and systemd-confext merge what lies here too, and nobody checks that. So an
    empty directory lies over each that is on the disk. Refused: a link, which systemd follows."""
    for name, mode, paths in (
        ("etc", settings.etc, ("extensions", "confexts")),
        ("var", settings.var, ("lib/extensions", "lib/confexts")),
    ):
        if mode not in ("bind", "overlay"):
            continue
        directory = posix.open(name, posix.O_PATH | _DIRECTORY, dir_fd=root.mount)
        for path in paths:
            where = f"/{name}/{path}"
            try:
                place = _cfs.open_beneath(directory, path, posix.O_PATH | _DIRECTORY)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue
                expected = "no such directory: the UKI names the extensions"
                raise failure("state", where, error, expected) from None
            try:
                hidden = _cfs.fs_mount(
                    "tmpfs", [("source", "cfs-hidden")], _SECURE | mounting.RDONLY
                )
            except OSError as error:
                raise mounting.mount_refused("tmpfs", where, error) from None
            _attach(hidden, place, where[1:])
            output.err(f"warning: {where} is hidden: the UKI names the extensions\n")


def show_disk(stage: Stage, root: compose.Root, readonly: bool) -> str:
    """The disk at /sysroot, where the image has that directory; never for running programs."""
    try:
        point = posix.open("sysroot", posix.O_PATH | _DIRECTORY, dir_fd=root.mount)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "not shown: no such directory in the image"
        raise failure("state", "/sysroot", error) from None
    base = stage.base if readonly else stage.disk()
    attributes = _SECURE | mounting.NOEXEC
    if readonly:
        attributes |= mounting.RDONLY
    try:
        disk = _cfs.mount_clone(base, False)
        _cfs.mount_set(disk, attributes, 0, False)
    except OSError as error:
        raise mounting.mount_refused("sysroot", "/sysroot", error) from None
    _attach(disk, point, "sysroot")
    return "read-only" if readonly else "writable"


def _bound(entry: Entry) -> int:
    try:
        mount = _cfs.mount_clone(entry.fd, False)
        _cfs.mount_set(mount, _SECURE, 0, False)
    except OSError as error:
        raise mounting.mount_refused("bind", entry.path, error) from None
    return mount


def _over(
    source: str, upper: tuple[int, int], paths: tuple[str, ...], lower: tuple[int, int]
) -> int:
    """An overlay that follows nothing in its upper layer, above a directory and the objects that
    this one takes its data from; -1: it is a composed one."""
    layered = lower[1] >= 0
    upper_path, work_path = paths or (None, None)
    return _cfs.overlay_mount(
        source, *lower, *upper, layered, _SECURE, upper_path, work_path, layered
    )


def _check_stacked(mount_fd: int, where: str) -> None:
    """The kernel's own account: Refused("check") unless redirects and metacopies stay off."""
    with Step("check", where):
        mount = mountinfo.of(mount_fd)
    options = mount.super_options if mount is not None else []
    if "ro" in options:
        found = "read-only: the kernel could not use its work directory (a full disk?)"
        raise Refused("check", where, found, "an overlay that can be written to")
    if "redirect_dir=nofollow" not in options or "metacopy=on" in options:
        found = f"mount options {','.join(options)!r}"
        raise Refused("check", where, found, "redirect_dir=nofollow and no metacopy=on")


def _memory(stage: Stage, name: str, size: str, lower: int) -> tuple[int, int]:
    """Upper and work directory in a tmpfs of their own; the upper one looks like `lower`."""
    memory = _tmpfs(name, size)
    stage.bring_in(memory)
    for directory in ("upper", "work"):
        posix.mkdir(directory, 0o755, dir_fd=memory)
    upper, work = (
        posix.open(directory, posix.O_RDONLY | _DIRECTORY, dir_fd=memory)
        for directory in ("upper", "work")
    )
    copying.attributes(f"/proc/self/fd/{lower}/.", f"/proc/self/fd/{upper}/.")
    return upper, work


def _tmpfs(name: str, size: str) -> int:
    options: list[tuple[str, str | None]] = [
        ("source", f"cfs-{name}"),
        ("mode", "0755"),
        ("size", size),
    ]
    try:
        return _cfs.fs_mount("tmpfs", options, _SECURE)
    except OSError as error:
        raise mounting.mount_refused("tmpfs", f"/{name}", error) from None


def _attach(mount: int, directory: int, name: str) -> None:
    try:
        _cfs.mount_attach(mount, directory)
    except OSError as error:
        raise failure("state", f"/{name}", error) from None
