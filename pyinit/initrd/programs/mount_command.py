# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-mount` and `mount.cfs`: one composed root, mounted on a directory."""

from pyinit.initrd.handover import status
from pyinit.initrd.kernel import mounting
from pyinit.initrd.programs import mount_options
from pyinit.initrd.programs.mount_options import MountOptions
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import EXIT_OK, EXIT_USAGE, CfsError, Refused, Step, printable
from pyinit.initrd.root import compose
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import Store, UnmeasuredImage, VerifiedImage, open_file
from pyinit.initrd.root.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def main(name: str, arguments: list[str]) -> int:
    """The exit code. `name` is what the program was called by."""
    helper = name == "mount.cfs"
    usage = mount_options.USAGE_HELPER if helper else mount_options.USAGE
    # Alone only: beside other words 0 would say that something is mounted.
    if arguments in (["-h"], ["--help"]):
        output.out(usage)
        return EXIT_OK
    if not arguments:
        output.error(usage.partition("\n")[0] + "\n")
        return EXIT_USAGE
    try:
        parse = mount_options.parse_helper if helper else mount_options.parse_command
        with Step("usage", name):
            mount(name, parse(arguments))
    except CfsError as error:
        output.error(f"{name}: {error}\n")
        return error.code
    return EXIT_OK


def mount(name: str, wanted: MountOptions) -> None:
    """Mounts, and says so as far as it was asked for; or raises CfsError, and all is as before."""
    digest = wanted.digest
    assert digest is not None
    if wanted.verity == "off":
        text = f"{name}: warning: --verity off: nothing of {wanted.target} is checked"
        output.err(printable(text) + "\n")
    mounted = compose.mounted_at(wanted.target)
    if mounted is not None:
        _already(name, wanted, mounted, digest)
        return
    with Stage(wanted.target) as stage:
        store = Store(wanted.store)
        if wanted.image is not None:
            fd, path = open_file(wanted.image), wanted.image
        else:
            fd, path = store.open_image(digest)
        kind = VerifiedImage if wanted.verity == "require" else UnmeasuredImage
        image = kind(fd, path, digest)
        root = compose.compose(stage, image, store.objects, wanted.attributes, upper=_upper(wanted))
        tree = stage.take_out(root.mount)
    done = "would be mounted" if wanted.dry_run else "mounted"
    text = f"{path} ({digest}, verity={image.verity}) {done} on {wanted.target}"
    record = _record(wanted, root)
    if wanted.dry_run:
        _say(name, wanted, text, record)
        return
    compose.attach(tree, wanted.target, image)
    try:
        _say(name, wanted, text, record)
    except BaseException:
        # After a failure no mount may be left.
        compose.detach(tree, wanted.target)
        raise


def _say(name: str, wanted: MountOptions, text: str, record: "dict[str, status.Value]") -> None:
    if wanted.json:
        with Step("attach", "standard output"):
            output.out(status.to_json(record) + "\n")
    if wanted.verbose:
        output.err(printable(f"{name}: {text}") + "\n")


def _already(name: str, wanted: MountOptions, mounted: Digest, digest: Digest) -> None:
    found = f"{mounted} is mounted there already"
    if mounted != digest or wanted.upperdir is not None:
        raise Refused("attach", wanted.target, found, str(digest))
    if compose.has_upper(wanted.target):
        raise Refused("attach", wanted.target, f"{found}, with an upper layer", "none")
    record: dict[str, status.Value] = {
        "digest": str(digest),
        "target": wanted.target,
        "already": True,
    }
    _say(name, wanted, f"{digest} is mounted on {wanted.target} already", record)


def _upper(wanted: MountOptions) -> "Callable[[int], tuple[int, int]] | None":
    if wanted.upperdir is None:
        return None
    assert wanted.workdir is not None  # they belong together: MountOptions.finish()
    layers = mounting.open_directory(wanted.upperdir), mounting.open_directory(wanted.workdir)
    return lambda _lower: layers


def _record(wanted: MountOptions, root: compose.Root) -> "dict[str, status.Value]":
    return {
        "digest": str(root.image.digest),
        "verity": root.image.verity,
        "store": wanted.store,
        "image": root.image.path,
        "target": wanted.target,
        "loop": root.used_loop,
        "canary": root.canary,
        "upperdir": wanted.upperdir,
        "mounted": not wanted.dry_run,
    }
