# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The boot flow, from top to bottom: setup() decides which image may boot and attaches its root,
or the second initrd that finds it; build() makes that root, choose() takes the image."""

from pyinit import VERSION
from pyinit.initrd import second_initrd
from pyinit.initrd.handover import pcr, relabel, status, volatile_root
from pyinit.initrd.kernel import mounting
from pyinit.initrd.machine import devices, rootdisk
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import Refused, Step, printable
from pyinit.initrd.root import compose, embedded, existing, memory_store, stacking
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing, Store, VerifiedImage
from pyinit.initrd.root.stage import Stage
from pyinit.initrd.source import decide, esp
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import layers, leftovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyinit.initrd.root.extension import Extension

# The root's own disk is there by now; the ESP is on it as a rule, or on one found with it.
_ESP_SECONDS = 5
_NO_DISK = "not shown: the root lies in memory"

# As unproved as the rest of the file, which somebody may have put there since.
_COMMAND_LINE = {None: "not looked at", True: "unproved, in the UKI", False: "not in the UKI"}


def setup(
    settings: Config,
    line: CommandLine,
    sysroot: str,
    mount_points: tuple[str, ...] = (),
    *,
    modules: Modules | None = None,
    root: str | None = None,
    can_start: bool = False,
) -> "dict[str, status.Value]":
    """Composes the root at `sysroot`; the status record.

    `root` names the disk, which nobody but us sees then; None: it is mounted at `sysroot`.
    `mount_points` must be directories of the image; `modules` loads drivers where the kernel has
    no modprobe to call. `can_start`: the caller starts a second initrd, which lies there where the
    record has no "root". CfsError: no mount is left.
    """
    device, search = "", None
    with Step("store", memory_store.PATH):
        whole = memory_store.is_there()
    if root is not None:
        # What others mount of a disk whose root is to be verified, others may have read.
        expected = "nothing: the disk that root= names is mounted here, unseen"
        compose.check_free(sysroot, expected)
    if whole:
        layers.check_memory(settings)
    elif root is not None:
        spec = settings.initrd_device or root
        with Step("store", spec or "root="):
            waits = line.all("rootwait"), line.all("rootdelay")
            search = rootdisk.Search(
                devices.patience(*waits, settings.root_wait),
                modules,
                lambda seconds=_ESP_SECONDS: esp.disk(modules, seconds),
            )
            device = rootdisk.find(spec, search, discovered=settings.root_discover)
    decision, facts = _decide(settings, line, modules, whole)
    second = second_initrd.is_named(settings, decision, can_start=can_start)
    held = None if second else embedded.take(decision.candidates, whole=whole)
    disk, lifted = -1, 0
    if search is not None:
        with Step("store", device):
            types, flags = line.first("rootfstype") or "", line.first("rootflags") or ""
            if settings.initrd_device:
                types = flags = ""  # of the root's own disk
            # Two initrds mount one disk, and the other one may have systemd, which obeys the line.
            shared = second or settings.digest_source == "first-initrd"
            disk, lifted = rootdisk.mount(
                device, types, flags, search, writable=shared and _says_writable(line)
            )
    with Stage(sysroot, disk, lifted) as stage:
        if second:
            return second_initrd.attach(stage, settings, decision, facts, mount_points)
        tree, image, built, more = build(
            stage,
            settings,
            decision.candidates,
            mount_points,
            modules,
            extensions=decision.extensions,
            held=held,
        )
        # Made before: whoever is told of a failure, memory included, must not find a root.
        record: dict[str, status.Value] = {
            "version": VERSION,
            **facts,
            **built,
            "measured": pcr.measure(settings, image.digest, decision.source),
        }
        record["extensions"] = {
            key: found
            if each is None
            else {
                **found,
                "measured": pcr.measure(settings, each[2].digest, decision.source, each[1]),
            }
            for key, (found, each) in more.items()
        }
        record["apps"] = {name: str(each) for name, each in decision.apps.items()}
        trees = [each for _, each in more.values() if each is not None]
        compose.attach_all([*trees, (tree, sysroot, image)])
    if stage.leftovers is not None:
        leftovers.remove_later(*stage.leftovers)
    if held is not None:
        embedded.free()
    return record


def _says_writable(line: CommandLine) -> bool:
    return [name for name, _ in line.parameters if name in ("ro", "rw")][-1:] == ["rw"]


def _decide(
    settings: Config, line: CommandLine, modules: Modules | None, whole: bool
) -> tuple[decide.Decision, dict[str, str]]:
    """And what the status record says of who named the root. `whole`: it needs no disk. So none is
    looked at, unless the configuration insists."""
    if settings.digest_source == "first-initrd":
        return decide.taken_over(decide.carried(), line)
    with Step("source", "UKI"):
        prove = settings.digest_source == "uki"
        wanted = settings.uki == "require" or (settings.uki != "off" and not whole)
        uki = esp.look(modules, _ESP_SECONDS, prove or wanted, prove)
        if whole and not (prove or wanted):
            uki.why_not = "the root needs no disk"
    if uki.command_line is False:
        output.err(
            f"warning: {printable(uki.path)} has no .cmdline: whoever started it chose init= and "
            "its arguments; build it with one (ukify build --cmdline=...)\n"
        )
    decision = decide.decide(settings, decide.carried(), uki, line)
    return decision, {
        "source": decision.source,
        "level": decision.level,
        "uki": decision.uki,
        "secure_boot": uki.secure_boot,
        "command_line": _COMMAND_LINE[uki.command_line],
    }


def build(
    stage: Stage,
    settings: Config,
    candidates: list[Digest],
    mount_points: tuple[str, ...],
    modules: Modules | None = None,
    *,
    extensions: dict[str, Digest] | None = None,
    held: VerifiedImage | None = None,
) -> "tuple[int, VerifiedImage, dict[str, status.Value], dict[str, Extension]]":
    """The finished tree, attached nowhere yet; its image; what the record says of them; and the
    extensions that these keys name. `held`: an image in memory, which need not be in the store.

    The disk is what lies at the stage's target.
    """
    whole = isinstance(held, embedded.WholeImage)
    store = memory_store.MemoryStore(stage) if whole else Store(stage.target + settings.store)
    image, missing = choose(store, candidates, held)
    root = compose.compose(
        stage,
        image,
        store.objects,
        0 if relabel.is_writable(settings.root) else mounting.RDONLY,
        upper=layers.root_layers(stage, settings),
        stacked=settings.stacked,
        spare=True,
        source=_source(settings),
    )
    for name in mount_points:
        layers.mount_point(root, name)
    layers.bind_usr(root, settings)
    over = layers.State(stage, root, settings, modules)
    over.look()
    etc, var = over.etc(), over.var()
    stackable = stacking.places(root.mount, root.objects, root.is_free)
    built: dict[str, status.Value] = {
        "digest": str(image.digest),
        "missing_candidates": [str(digest) for digest in missing],
        "store": store.path if whole else settings.store,
        "device": volatile_root.device(stage.base),
        "image": image.path.removeprefix(stage.target),
        "embedded": image.embedded,
        "verity": image.verity,
        "loop": root.used_loop,
        "canary": root.canary,
        "root": settings.root,
        "etc": etc,
        "var": var,
        "state": over.places,
        "stackable": list(stackable),
        "sysroot": _NO_DISK if whole else layers.show_disk(stage, root, settings.sysroot_readonly),
        "extensions": {},
    }
    more: dict[str, Extension] = {}
    if extensions:
        from pyinit.initrd.root import extension

        layers.hide_other_extensions(root, settings)
        may_lack = settings.extensions_missing == "skip"
        more = extension.compose_all(
            stage, store, root, extensions, may_lack=may_lack, stackable=stackable
        )
    return stage.take_out(root.mount), image, built, more


def _source(settings: Config) -> str:
    """bootc's unit that labels a transient root for SELinux knows one by this."""
    if settings.profile == "bootc" and settings.root != "sealed":
        return existing.SOURCE_TRANSIENT
    return existing.SOURCE


def choose(
    store: Store,
    candidates: list[Digest],
    held: VerifiedImage | None = None,
) -> tuple[VerifiedImage, list[Digest]]:
    """The first candidate whose image exists, measured; and those before it, whose image does not.

    The one that is held exists. An image that is there and wrong is refused: it never leads to the
    next candidate.
    """
    missing: list[Digest] = []
    for digest in candidates:
        if held is not None and digest == held.digest:
            return held, missing
        try:
            fd, path = store.open_image(digest)
        except ImageMissing:
            if len(missing) + 1 == len(candidates):
                raise
            missing.append(digest)
        else:
            return VerifiedImage(fd, path, digest), missing
    raise Refused("source", store.path, "no candidate", "a digest")
