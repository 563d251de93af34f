# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The boot flow, read from top to bottom in setup(); and `cfs-setup-root`, which runs it in a
systemd initrd, over the /sysroot that sysroot.mount has mounted."""

import posix

from pyinit import VERSION
from pyinit.initrd import cmdline, compose, config, esp, output, sources, state, status
from pyinit.initrd.cmdline import CommandLine
from pyinit.initrd.config import Config
from pyinit.initrd.digest import Digest
from pyinit.initrd.errors import EXIT_OK, CfsError, Refused, Step, UsageError, os_error
from pyinit.initrd.image import ImageMissing, Store, VerifiedImage
from pyinit.initrd.modules import Modules

# The root's own disk is there by now; the ESP is on it as a rule, or on one found with it.
_ESP_SECONDS = 5

USAGE = "usage: cfs-setup-root [--sysroot DIR] [--config FILE]\n"


def setup(
    settings: Config,
    line: CommandLine,
    sysroot: str,
    mount_points: tuple[str, ...] = (),
    modules: Modules | None = None,
) -> "dict[str, status.Value]":
    """Composes the root over the disk mounted at `sysroot`; the status record.

    `mount_points` must be directories of the image; `modules` loads drivers where the kernel has
    no modprobe to call. CfsError: nothing has changed.
    """
    with Step("source", "UKI"):
        uki = esp.look(modules, _ESP_SECONDS, settings.uki != "off")
    decision = sources.decide(settings, sources.carried(), uki, line)
    with compose.Stage(sysroot) as stage:
        store = Store(sysroot + settings.store)
        image, missing = choose(store, decision.candidates)
        root = compose.compose(stage, image, store.objects, compose.RDONLY)
        for name in mount_points:
            state.mount_point(root, name)
        etc = state.transient_etc(stage, root)
        var = state.volatile_var(root)
        shown = state.show_disk(stage, root, settings.sysroot_readonly)
        tree = stage.take_out(root.mount)
    record: dict[str, status.Value] = {
        "version": VERSION,
        "digest": str(image.digest),
        "source": decision.level,
        "level": decision.level,
        "uki": decision.uki,
        "secure_boot": uki.secure_boot,
        "missing_candidates": [str(digest) for digest in missing],
        "store": settings.store,
        "image": image.path.removeprefix(sysroot),
        "verity": image.verity,
        "loop": root.used_loop,
        "canary": root.canary,
        "etc": etc,
        "var": var,
        "sysroot": shown,
    }
    compose.attach(tree, sysroot, image)
    return record


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
        sysroot, path = _parse(arguments)
        with Step("source", name):
            done = compose.mounted_at(sysroot)
            if done is not None:
                return _already(name, sysroot, done)
            record = setup(config.load(path), cmdline.load(), sysroot)
    except CfsError as error:
        output.err(f"{name}: {error}\n")
        return error.code
    announce(name, record)
    return EXIT_OK


def announce(name: str, record: "dict[str, status.Value]") -> None:
    """Writes the status record, and one line to stderr. The root stays, whatever fails here."""
    try:
        status.write(record)
    except OSError as error:
        output.err(f"{name}: warning: {status.PATH}: {os_error(error)}\n")
    except MemoryError:
        output.err("warning: " + status.PATH + ": out of memory\n")
    try:
        _say(name, record)
    except MemoryError:
        output.err("warning: out of memory\n")


def _say(name: str, record: "dict[str, status.Value]") -> None:
    said = f"{record['image']} ({record['digest']}, {record['source']})"
    for digest in record["missing_candidates"] or ():  # type: ignore[union-attr]
        output.err(f"{name}: candidate {digest} has no image, going on to the next\n")
    output.err(f"{name}: root is {said}, /etc {record['etc']}, /var {record['var']}\n")


def _already(name: str, sysroot: str, done: Digest) -> int:
    """Run twice: the same digest is nothing to do, another one is refused."""
    candidates = sources.carried()
    if candidates is not None and done in candidates:
        output.err(f"{name}: {done} is mounted on {sysroot} already\n")
        return EXIT_OK
    expected = " ".join(map(str, candidates or []))
    raise Refused("attach", sysroot, f"{done} is mounted there already", expected)


def _parse(arguments: list[str]) -> tuple[str, str]:
    values = {"--sysroot": "/sysroot", "--config": config.PATH}
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option not in values:
            raise UsageError("usage", option, "unknown option", "--sysroot or --config")
        if not equals:
            if not rest:
                raise UsageError("usage", option, "its value is missing")
            value = rest.pop(0)
        if not value.startswith("/"):
            raise UsageError("usage", option, repr(value), "an absolute path")
        values[option] = value if value == "/" else value.rstrip("/")
    if values["--config"] != config.PATH:
        try:
            posix.stat(values["--config"])
        except OSError as error:
            raise UsageError("config", values["--config"], os_error(error)) from None
    return values["--sysroot"], values["--config"]
