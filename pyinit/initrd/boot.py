# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The boot flow, from top to bottom: setup() decides which image may boot and attaches its root,
build() makes that root, choose() takes the image."""

from pyinit import VERSION
from pyinit.initrd.handover import pcr, relabel, status, volatile_root
from pyinit.initrd.kernel import mounting
from pyinit.initrd.machine import devices, rootdisk
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import Refused, Step, printable
from pyinit.initrd.root import compose, existing, stacking
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing, Store, VerifiedImage
from pyinit.initrd.root.stage import Stage
from pyinit.initrd.source import decide, esp
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config
from pyinit.initrd.state import layers, leftovers

# The root's own disk is there by now; the ESP is on it as a rule, or on one found with it.
_ESP_SECONDS = 5

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
) -> "dict[str, status.Value]":
    """Composes the root at `sysroot`; the status record.

    `root` names the disk, which nobody but us sees then; None: it is mounted at `sysroot`.
    `mount_points` must be directories of the image; `modules` loads drivers where the kernel has
    no modprobe to call. CfsError: no mount is left.
    """
    device, search = "", None
    if root is not None:
        compose.check_free(sysroot)
        with Step("store", root or "root="):
            waits = line.all("rootwait"), line.all("rootdelay")
            search = rootdisk.Search(
                devices.patience(*waits, settings.root_wait),
                modules,
                lambda seconds=_ESP_SECONDS: esp.disk(modules, seconds),
            )
            device = rootdisk.find(root, search, discovered=settings.root_discover)
    with Step("source", "UKI"):
        prove = settings.digest_source == "uki"
        uki = esp.look(modules, _ESP_SECONDS, prove or settings.uki != "off", prove)
    if uki.command_line is False:
        output.err(
            f"warning: {printable(uki.path)} has no .cmdline: whoever started it chose init= and "
            "its arguments; build it with one (ukify build --cmdline=...)\n"
        )
    decision = decide.decide(settings, decide.carried(), uki, line)
    disk, lifted = -1, 0
    if search is not None:
        with Step("store", device):
            types, flags = line.first("rootfstype") or "", line.first("rootflags") or ""
            disk, lifted = rootdisk.mount(device, types, flags, search)
    with Stage(sysroot, disk, lifted) as stage:
        tree, image, built = build(stage, settings, decision.candidates, mount_points, modules)
        # Made before: whoever is told of a failure, memory included, must not find a root.
        record: dict[str, status.Value] = {
            "version": VERSION,
            "source": decision.source,
            "level": decision.level,
            "uki": decision.uki,
            "secure_boot": uki.secure_boot,
            "command_line": _COMMAND_LINE[uki.command_line],
            **built,
            "measured": pcr.measure(settings, image.digest, decision.source),
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
        "stackable": list(stacking.places(root.mount, root.objects, root.is_free)),
        "sysroot": layers.show_disk(stage, root, settings.sysroot_readonly),
    }
    return stage.take_out(root.mount), image, built


def _source(settings: Config) -> str:
    """bootc's unit that labels a transient root for SELinux knows one by this."""
    if settings.profile == "bootc" and settings.root != "sealed":
        return existing.SOURCE_TRANSIENT
    return existing.SOURCE


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
