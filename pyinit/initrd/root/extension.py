# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Extensions: images of the root's store that systemd-sysext and systemd-confext lay over /usr and
/etc of the booted system. Each is composed and checked as the root is, and attached below /run.

systemd goes on without an extension of another release. Here that is refused before the root is
handed over, by the rules of os-release(5): a file extension-release.NAME has the ID, and the
VERSION_ID or the level, of the root's os-release.
"""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import files
from pyinit.initrd.kernel.mounting import NEW_API, NODEV, NOSUID, RDONLY
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import Refused, Step
from pyinit.initrd.root import compose, stacking
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing, Store, VerifiedImage
from pyinit.initrd.root.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    Record = dict[str, str | bool | None]
    Extension = tuple[Record, compose.Tree | None]

# By kind: where systemd looks for them, what it lays them over, and where they say for which
# release they are.
_KINDS = {
    "confext": ("/run/confexts", "/etc", "/etc/extension-release.d"),
    "sysext": ("/run/extensions", "/usr", "/usr/lib/extension-release.d"),
}
# The second is read where the first is not there. /etc may be the disk's, and who writes that can
# have an extension refused or taken by it; which one it is, the UKI says.
_ROOT_SAYS = ("usr/lib/os-release", "etc/os-release")
_MACHINES = {"x86_64": "x86-64", "aarch64": "arm64"}
_RELEASE_MAX = 16384


def place_of(key: str) -> str:
    """Where the extension of that key is mounted."""
    kind, _, name = key.partition(".")
    return f"{_KINDS[kind][0]}/{name}"


def compose_all(
    stage: Stage,
    store: Store,
    root: compose.Root,
    named: dict[str, Digest],
    *,
    may_lack: bool,
    stackable: list[str],
) -> "dict[str, Extension]":
    """Those that are named by key, in their order, each with its record; without a tree where it is
    not there. `may_lack`: go on without one whose image does not exist. `stackable`: where an
    overlay can lie above the root. CfsError."""
    found: dict[str, Extension] = {}
    for key, digest in named.items():
        image = _open(store, key, digest, may_lack)
        if image is None:
            found[key] = {"digest": str(digest)}, None
            continue
        kind = key.partition(".")[0]
        place, over = place_of(key), _KINDS[kind][1]
        made = compose.compose(stage, image, store.objects, RDONLY | NODEV | NOSUID, spare=True)
        free = made.is_free or stacking.is_free(made.mount, store.objects)
        if not free or over not in stackable:
            what = f"no overlay can be stacked above {over if free else image.path}"
            raise Refused("overlay", place, what, f"a place for systemd-{kind}")
        _check(key, made, root)
        with Step("attach", place, needs=NEW_API):
            tree = _cfs.mount_clone(made.mount, False)
            files.make_parents(place + "/")
        compose.detach(made.mount, stage.target)
        compose.check_free(place, f"nothing: {key} of the UKI is mounted here; unmount it")
        record: Record = {
            "digest": str(digest),
            "image": image.path.removeprefix(stage.target),
            "mounted": place,
            "loop": made.used_loop,
            "canary": made.canary,
        }
        found[key] = record, (tree, place, image)
    return found


def _open(store: Store, key: str, digest: Digest, may_lack: bool) -> VerifiedImage | None:
    try:
        fd, path = store.open_image(digest)
    except ImageMissing as error:
        if may_lack:
            output.err(f"warning: {key} is left out: {error.path}: {error.found}\n")
            return None
        expected = f"{error.expected}, which is {key} in the UKI"
        raise Refused("open", error.path, error.found, expected) from None
    return VerifiedImage(fd, path, digest)


def _check(key: str, made: compose.Root, root: compose.Root) -> None:
    """Refused: systemd would not take it for an extension of this root."""
    kind, _, name = key.partition(".")
    path = f"{_KINDS[kind][2]}/extension-release.{name}"
    where = f"{made.image.path}: {path}"
    says = _release(made.mount, path[1:])
    if says is None:
        raise Refused("check", where, "no such file", "what it is an extension of")
    if kind == "sysext" and _release(made.mount, _ROOT_SAYS[0]) is not None:
        found = f"/{_ROOT_SAYS[0]} is in it, so systemd takes it for a root"
        raise Refused("check", where, found, "an extension")
    ours: dict[str, str] | None = None
    for place in _ROOT_SAYS:
        ours = _release(root.mount, place) if ours is None else ours
    fault = mismatch(kind, says, ours or {})
    if fault:
        raise Refused("check", where, fault, f"{key} of this root")


def _release(directory: int, path: str) -> dict[str, str] | None:
    """The assignments in a file of that tree, those of nothing left out; None: it is not there."""
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
    with Step("check", "/" + path):
        try:
            fd = posix.open(path, flags, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        text = files.read_fd(fd, _RELEASE_MAX).decode("utf-8", "replace")
        posix.close(fd)
    lines = [line.strip().partition("=") for line in text.split("\n")]
    values = {key: value.strip("\"'") for key, _, value in lines}
    return {key: value for key, value in values.items() if value}


def mismatch(kind: str, says: dict[str, str], root: dict[str, str]) -> str:
    """Why an extension that says so is none of this root; empty: it is one. As
    extension_release_validate() of systemd 257."""
    name, level = says.get("ID"), kind.upper() + "_LEVEL"
    scope, wanted = kind.upper() + "_SCOPE", "system"
    if wanted not in says.get(scope, wanted).split():
        return f"{scope}={says[scope]}, and the root has {scope}={wanted}"
    machine = posix.uname().machine
    machine = _MACHINES.get(machine, machine)
    key = "ARCHITECTURE"
    if says.get(key, machine) not in (machine, "_any"):
        return f"{key}={says[key]}, and the root has {key}={machine}"
    key = "ID"
    if name == "_any":
        return ""
    if name and name in [root.get(key), *root.get("ID_LIKE", "").split()]:
        key = level if level in says and level in root else "VERSION_ID"
        if root.get(key) in (None, says.get(key)):
            return ""
    return f"{key}={says.get(key)}, and the root has {key}={root.get(key)}"
