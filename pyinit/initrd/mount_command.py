# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-mount` and `mount.cfs`: one composed root, mounted on a directory."""

import _cfs

from pyinit import VERSION
from pyinit.initrd import compose, options, output, status
from pyinit.initrd.digest import Digest
from pyinit.initrd.errors import EXIT_OK, CfsError, Refused, printable
from pyinit.initrd.image import Store, UnmeasuredImage, VerifiedImage, open_file
from pyinit.initrd.options import MountOptions


def main(name: str, arguments: list[str]) -> int:
    """The exit code. `name` is what the program was called by."""
    helper = name == "mount.cfs"
    # Alone only: beside other words 0 would say that something is mounted.
    if arguments in (["-h"], ["--help"]):
        output.out(options.USAGE_HELPER if helper else options.USAGE)
        return EXIT_OK
    if arguments == ["--version"]:
        output.out(f"{name} {VERSION}\n")
        return EXIT_OK
    try:
        parse = options.parse_helper if helper else options.parse_command
        record = mount(name, parse(arguments))
    except CfsError as error:
        output.err(f"{name}: {error}\n")
        return error.code
    if record is not None:
        output.out(status.to_json(record) + "\n")
    return EXIT_OK


def mount(name: str, wanted: MountOptions) -> "dict[str, status.Value] | None":
    """Mounts, or raises CfsError with everything as before. The record where it was asked for."""
    digest = wanted.digest
    assert digest is not None
    if wanted.verity == "off":
        text = f"{name}: warning: --verity off: nothing of {wanted.target} is checked"
        output.err(printable(text) + "\n")
    mounted = compose.mounted_at(compose.open_directory(wanted.target))
    if mounted is not None:
        return _already(name, wanted, mounted, digest)
    with compose.Stage(wanted.target) as stage:
        store = Store(wanted.store)
        if wanted.image is not None:
            fd, path = open_file(wanted.image), wanted.image
        else:
            fd, path = store.open_image(digest)
        kind = VerifiedImage if wanted.verity == "require" else UnmeasuredImage
        image = kind(fd, path, digest)
        root = compose.compose(stage, image, store.objects, wanted.attributes, _upper(wanted))
        tree = _cfs.mount_clone(root.mount, True)
    if not wanted.dry_run:
        compose.attach(tree, wanted.target, image)
    if wanted.verbose:
        done = "would be mounted" if wanted.dry_run else "mounted"
        text = f"{path} ({digest}, verity={image.verity}) {done} on {wanted.target}"
        output.err(printable(f"{name}: {text}") + "\n")
    return _record(wanted, root) if wanted.json else None


def _already(
    name: str, wanted: MountOptions, mounted: Digest, digest: Digest
) -> "dict[str, status.Value] | None":
    if mounted != digest or wanted.upperdir is not None:
        raise Refused("attach", wanted.target, f"{mounted} is mounted there already", str(digest))
    if wanted.verbose:
        output.err(printable(f"{name}: {digest} is mounted on {wanted.target} already") + "\n")
    if not wanted.json:
        return None
    return {"digest": str(digest), "target": wanted.target, "already": True}


def _upper(wanted: MountOptions) -> tuple[int, int] | None:
    if wanted.upperdir is None or wanted.workdir is None:
        return None
    return compose.open_directory(wanted.upperdir), compose.open_directory(wanted.workdir)


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
