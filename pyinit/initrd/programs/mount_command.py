# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-mount` and `mount.cfs`: one composed root, mounted on a directory."""

from pyinit.initrd.handover import status
from pyinit.initrd.kernel import mounting
from pyinit.initrd.programs import mount_again, mount_options
from pyinit.initrd.programs.mount_options import MountOptions
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import EXIT_OK, EXIT_USAGE, CfsError, Step, printable
from pyinit.initrd.root import compose, existing
from pyinit.initrd.root.existing import Existing
from pyinit.initrd.root.image import Store, UnmeasuredImage, VerifiedImage, open_file
from pyinit.initrd.root.stage import Stage


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
    if wanted.verity == "off":
        text = f"{name}: warning: --verity off: nothing of {wanted.target} is checked"
        output.err(printable(text) + "\n")
    mounting.check_proc()
    if wanted.name is not None:
        from pyinit.initrd.handover import named_images

        wanted.digest, found, _ = named_images.find(wanted.name)
        wanted.store = wanted.store or found
    if wanted.remount:
        _say(name, wanted, mount_again.remount(name, wanted), {})
        return
    digest = wanted.digest
    assert digest is not None  # but to remount: MountOptions.finish()
    there = existing.at(wanted.target)
    if there is not None:
        _already(name, wanted, there)
        return
    with Stage(wanted.target) as stage:
        store = Store(wanted.store)
        if wanted.image is not None:
            fd, path = open_file(wanted.image), wanted.image
        else:
            fd, path = store.open_image(digest)
        kind = VerifiedImage if wanted.verity == "require" else UnmeasuredImage
        image = kind(fd, path, digest)
        root = _compose(stage, image, store.objects, wanted)
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


def _already(name: str, wanted: MountOptions, there: Existing) -> None:
    mount_again.check_same(wanted, there)
    mount_again.warn_of_attributes(name, wanted, there)
    record: dict[str, status.Value] = {
        "digest": str(there.digest),
        "target": wanted.target,
        "already": True,
    }
    _say(name, wanted, f"{there.digest} is mounted on {wanted.target} already", record)


def _compose(
    stage: Stage, image: VerifiedImage, objects: int, wanted: MountOptions
) -> compose.Root:
    if wanted.upperdir is None:
        return compose.compose(stage, image, objects, wanted.attributes)
    assert wanted.workdir is not None  # they belong together: MountOptions.finish()
    upper, work = (mounting.open_directory(path) for path in (wanted.upperdir, wanted.workdir))
    existing.check_unused({wanted.upperdir: upper, wanted.workdir: work})
    with Step("overlay", wanted.upperdir, needs=mounting.NEW_API):
        paths = existing.paths((upper, work))
    return compose.compose(
        stage,
        image,
        objects,
        wanted.attributes,
        upper=lambda _lower: (upper, work),
        upper_paths=paths,
    )


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
