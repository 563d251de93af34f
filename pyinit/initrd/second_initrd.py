# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A second initrd: an image of a store that the UKI names beside the root, composed and verified as
a root is, with what is written in it in memory.

It lies on the disk, so it can have what the UKI has no room for: systemd, all drivers, firmware,
tools. `init` starts it in place of the root, and it composes the root with what handed_over.py has.
"""

from pyinit.initrd.handover import pcr, status
from pyinit.initrd.report.errors import Refused, Step
from pyinit.initrd.root import compose
from pyinit.initrd.root.image import ImageMissing, Store, VerifiedImage
from pyinit.initrd.root.stage import Stage
from pyinit.initrd.source import handed_over
from pyinit.initrd.source.config import Config
from pyinit.initrd.source.decide import Decision
from pyinit.initrd.source.payload import INITRD
from pyinit.initrd.state import layers


def is_named(settings: Config, decision: Decision, *, can_start: bool) -> bool:
    """Does the UKI name one? Refused("source"): it does and nobody here can start it, or the
    configuration says where it is and the UKI names none."""
    named = INITRD in decision.named.others
    if named and not can_start:
        found = f"{INITRD}=, a second initrd"
        expected = "none: only init, as PID 1 of an initrd without systemd, starts one"
        raise Refused("source", decision.source, found, expected)
    if settings.initrd_device and not named:
        found = f"no {INITRD}=, and the configuration has initrd-device={settings.initrd_device}"
        raise Refused("source", decision.source, found, f"{INITRD}= (cfs-uki seal --{INITRD})")
    return named


def attach(
    stage: Stage,
    settings: Config,
    decision: Decision,
    facts: dict[str, str],
    mount_points: tuple[str, ...],
) -> "dict[str, status.Value]":
    """Composes it at the stage's target; its record. CfsError: no mount is left."""
    digest = decision.named.others[INITRD]
    where = settings.initrd_store or settings.store
    store = Store(stage.target + where)
    try:
        fd, path = store.open_image(digest)
    except ImageMissing as error:
        expected = f"{error.expected}, which is {INITRD} in the UKI"
        raise Refused("open", error.path, error.found, expected) from None
    image = VerifiedImage(fd, path, digest)
    memory = layers.MemoryLayers(stage, settings.initrd_size)
    root = compose.compose(stage, image, store.objects, 0, upper=memory)
    for name in mount_points:
        layers.mount_point(root, name)
    tree = stage.take_out(root.mount)
    record: dict[str, status.Value] = {
        "digest": str(digest),
        "source": decision.source,
        "level": decision.level,
        "store": where,
        "image": path.removeprefix(stage.target),
        "verity": image.verity,
        "loop": root.used_loop,
        "canary": root.canary,
        "measured": pcr.measure(settings, digest, decision.source, INITRD),
    }
    with Step("switch-root", handed_over.PATH):
        status.write(record, status.INITRD)
        status.write_file(handed_over.PATH, handed_over.write(facts, decision.named))
    compose.attach(tree, stage.target, image)
    return record
