# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The boot flow, read from top to bottom in setup() and build(); and `cfs-setup-root`, which runs
it in initrds of others: with systemd over the /sysroot that sysroot.mount has mounted, elsewhere
(--root) from the disk that it mounts itself."""

import posix

from pyinit import VERSION
from pyinit.initrd import (
    cmdline,
    compose,
    config,
    ending,
    esp,
    leftovers,
    mounting,
    output,
    rootdisk,
    sources,
    state,
    status,
    volatile_root,
)
from pyinit.initrd.cmdline import CommandLine
from pyinit.initrd.config import Config
from pyinit.initrd.digest import Digest
from pyinit.initrd.errors import (
    EXIT_OK,
    EXIT_SYSTEM,
    CfsError,
    Refused,
    Step,
    UsageError,
    os_error,
    printable,
)
from pyinit.initrd.image import ImageMissing, Store, VerifiedImage
from pyinit.initrd.modules import Modules
from pyinit.initrd.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The root's own disk is there by now; the ESP is on it as a rule, or on one found with it.
_ESP_SECONDS = 5

# As unproved as the rest of the file, which somebody may have put there since.
_COMMAND_LINE = {None: "not looked at", True: "unproved, in the UKI", False: "not in the UKI"}

USAGE = """\
usage: cfs-setup-root [--root DISK | --soft-reboot DIGEST] [--sysroot DIR] [--config FILE]
       cfs-setup-root --give-up [--config FILE]

  --root DISK            mount this disk first (/dev/NAME, PARTUUID=, UUID=, LABEL=, PARTLABEL=)
  --sysroot DIR          where the root is attached (default: /sysroot)
  --config FILE          the compiled configuration
  --soft-reboot DIGEST   prepare another image of the same store, in a running system
  --give-up              after a refusal: what the configuration says
  -h, --help             this text
  --version              the version
"""
_OPTIONS = ("--root", "--sysroot", "--config", "--soft-reboot")
_GIVE_UP = "--give-up"
# What whoever switches root moves into the new one.
_MOVED = ("dev", "proc", "run", "sys")


def setup(
    settings: Config,
    line: CommandLine,
    sysroot: str,
    mount_points: tuple[str, ...] = (),
    *,
    modules: Modules | None = None,
    root: str | None = None,
) -> "dict[str, status.Value]":
    """Composes the root at `sysroot`; the status record.

    `root` names the disk, which nobody but us sees then; None: it is mounted at `sysroot`.
    `mount_points` must be directories of the image; `modules` loads drivers where the kernel has
    no modprobe to call. CfsError: no mount is left.
    """
    device = ""
    if root is not None:
        compose.check_free(sysroot)
        with Step("store", root or "root="):
            device = rootdisk.find(root, settings, line, modules)
    with Step("source", "UKI"):
        uki = esp.look(modules, _ESP_SECONDS, settings.uki != "off")
    if uki.command_line is False:
        output.err(
            f"warning: {printable(uki.path)} has no .cmdline: who started it chose init= and its "
            "arguments; seal one that has (cfs-uki seal)\n"
        )
    decision = sources.decide(settings, sources.carried(), uki, line)
    disk, lifted = -1, 0
    if root is not None:
        with Step("store", device):
            disk, lifted = rootdisk.mount(device, line, modules)
    with Stage(sysroot, disk, lifted) as stage:
        tree, image, built = build(stage, settings, decision.candidates, mount_points, modules)
        # Made before: whoever is told of a failure, memory included, must not find a root.
        record: dict[str, status.Value] = {
            "version": VERSION,
            "source": decision.level,
            "level": decision.level,
            "uki": decision.uki,
            "secure_boot": uki.secure_boot,
            "command_line": _COMMAND_LINE[uki.command_line],
            **built,
        }
        compose.attach(tree, sysroot, image)
    if stage.leftovers is not None:
        leftovers.remove_later(*stage.leftovers)
    return record


def build(
    stage: Stage,
    settings: Config,
    candidates: list[Digest],
    mount_points: tuple[str, ...],
    modules: Modules | None = None,
) -> "tuple[int, VerifiedImage, dict[str, status.Value]]":
    """The finished tree, attached nowhere yet; its image; and what the record says of them.

    The disk is what lies at the stage's target.
    """
    store = Store(stage.target + settings.store)
    image, missing = choose(store, candidates)
    root = compose.compose(
        stage,
        image,
        store.objects,
        0 if settings.root == "transient" else mounting.RDONLY,
        upper=state.root_layers(stage, settings),
        stacked=settings.stacked,
    )
    for name in mount_points:
        state.mount_point(root, name)
    over = state.State(stage, root, settings, modules)
    built: dict[str, status.Value] = {
        "digest": str(image.digest),
        "missing_candidates": [str(digest) for digest in missing],
        "store": settings.store,
        "device": volatile_root.device(stage.base),
        "image": image.path.removeprefix(stage.target),
        "verity": image.verity,
        "loop": root.used_loop,
        "canary": root.canary,
        "root": settings.root,
        "etc": over.etc(),
        "var": over.var(),
        "state": over.places,
        "sysroot": state.show_disk(stage, root, settings.sysroot_readonly),
    }
    return stage.take_out(root.mount), image, built


def choose(store: Store, candidates: list[Digest]) -> tuple[VerifiedImage, list[Digest]]:
    """The first candidate whose image exists, measured; and those before it, whose image does not.

    An image that is there and wrong is refused: it never leads to the next candidate.
    """
    missing: list[Digest] = []
    for digest in candidates:
        try:
            fd, path = store.open_image(digest)
        except ImageMissing:
            if len(missing) + 1 == len(candidates):
                raise
            missing.append(digest)
        else:
            return VerifiedImage(fd, path, digest), missing
    raise Refused("source", store.path, "no candidate", "a digest")


def main(arguments: list[str]) -> int:
    """`cfs-setup-root`; the exit code."""
    name = "cfs-setup-root"
    if arguments in (["-h"], ["--help"]):
        output.out(USAGE)
        return EXIT_OK
    try:
        wanted = _parse(arguments)
        with Step("source", name):
            if wanted.give_up:
                return _give_up(name, wanted.config)
            if wanted.following is not None:
                from pyinit.initrd import soft_reboot

                settings = config.load(wanted.config)
                return soft_reboot.prepare(name, settings, wanted.following, wanted.sysroot)
            done = compose.mounted_at(wanted.sysroot)
            if done is not None:
                return _already(name, wanted.sysroot, done)
            settings = config.load(wanted.config)
            line = cmdline.load()
            moved = _MOVED if wanted.root is not None else ()
            record = setup(settings, line, wanted.sysroot, moved, root=wanted.root)
    except CfsError as error:
        output.error(f"{name}: {error}\n")
        return error.code
    announce(name, record, settings)
    return EXIT_OK


def _give_up(name: str, path: str) -> int:
    """The configured action. 0: it is the caller's shell, and nothing was done."""
    settings = Config()
    try:
        settings = config.load(path)
    except CfsError as error:
        output.error(f"{name}: {error}\n")
    if ending.wants_shell(settings):
        output.err(f"{name}: a shell, since the configuration says so\n")
        return EXIT_OK
    ending.end(name, settings)
    return EXIT_SYSTEM


def announce(name: str, record: "dict[str, status.Value]", settings: Config) -> None:
    """Leaves in /run what the system will want to know, and says one line to stderr.

    The root stays, whatever fails here.
    """
    leave(name, status.PATH, lambda: status.write(record))
    leave(name, status.CONFIG, lambda: status.write_file(status.CONFIG, config.format(settings)))
    device = record["device"]
    if settings.volatile_root_link and isinstance(device, str):
        leave(name, volatile_root.LINK, lambda: volatile_root.link(device))
    try:
        say(name, record, "root")
    except MemoryError:
        output.err("warning: out of memory\n")


def leave(name: str, path: str, action: "Callable[[], None]") -> None:
    """What must not fail a root that is there already."""
    try:
        action()
    except OSError as error:
        output.err(f"{name}: warning: {path}: {os_error(error)}\n")
    except MemoryError:
        output.err("warning: " + path + ": out of memory\n")


def say(name: str, record: "dict[str, status.Value]", what: str) -> None:
    """What was done."""
    said = f"{record['image']} ({record['digest']}, {record['source']})"
    for digest in record["missing_candidates"] or ():  # type: ignore[union-attr]
        output.err(f"{name}: candidate {digest} has no image, going on to the next\n")
    output.err(f"{name}: {what} is {said}, /etc {record['etc']}, /var {record['var']}\n")


def _already(name: str, sysroot: str, done: Digest) -> int:
    """Run twice: the same digest is nothing to do, another one is refused."""
    candidates = sources.carried() or cmdline.digests(cmdline.load())
    if done in candidates:
        output.err(f"{name}: {done} is mounted on {sysroot} already\n")
        return EXIT_OK
    expected = " ".join(map(str, candidates)) or "a root that somebody names"
    raise Refused("attach", sysroot, f"{done} is mounted there already", expected)


class _Wanted:
    """The command line of cfs-setup-root."""

    __slots__ = ("config", "following", "give_up", "root", "sysroot")

    def __init__(self) -> None:
        self.root: str | None = None
        self.sysroot = "/sysroot"
        self.config = config.PATH
        self.following: Digest | None = None
        self.give_up = False


def _parse(arguments: list[str]) -> _Wanted:
    values = _values(arguments)
    wanted = _Wanted()
    wanted.give_up = _GIVE_UP in values
    wanted.root = values.get("--root")
    if "--soft-reboot" in values:
        if wanted.root is not None:
            raise UsageError("usage", "--root", "not together with --soft-reboot")
        digest = values["--soft-reboot"]
        if not digest:
            raise UsageError("usage", "--soft-reboot", "its value is empty", "a digest")
        wanted.following = Digest.parse(digest, "--soft-reboot")
        wanted.config = status.CONFIG
    if "--sysroot" in values:
        wanted.sysroot = _absolute("--sysroot", values["--sysroot"])
    if "--config" in values:
        wanted.config = _absolute("--config", values["--config"])
    # Whoever gives up does so without it too.
    if wanted.config != config.PATH and not wanted.give_up:
        try:
            posix.stat(wanted.config)
        except OSError as error:
            raise UsageError("config", wanted.config, os_error(error)) from None
    return wanted


def _values(arguments: list[str]) -> dict[str, str]:
    """By option."""
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option == _GIVE_UP and not equals:
            values[option] = ""
            continue
        if option not in _OPTIONS:
            raise UsageError("usage", option, "unknown option", ", ".join((*_OPTIONS, _GIVE_UP)))
        if not equals:
            if not rest:
                raise UsageError("usage", option, "its value is missing")
            value = rest.pop(0)
        values[option] = value
    return values


def _absolute(option: str, path: str) -> str:
    if not path.startswith("/"):
        raise UsageError("usage", option, repr(path), "an absolute path")
    return path if path == "/" else path.rstrip("/")
