# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Arguments of mount.cfs (mount options among them) and of cfs-mount, divided by NUL."""

from collections.abc import Callable

from pyinit.initrd.kernel.mounting import NODEV, NOEXEC, NOSUID, RDONLY
from pyinit.initrd.programs import mount_options
from pyinit.initrd.report.errors import UsageError

_ONCE = ("digest", "image", "upperdir", "workdir", "verity")


def check(data: bytes) -> None:
    arguments = data.decode("utf-8", "surrogateescape").split("\0")
    given = list(arguments)
    for parse in (mount_options.parse_helper, mount_options.parse_command):
        _check(parse, arguments)
        assert arguments == given
    # As fstab gives them: all in one field.
    if _check(mount_options.parse_helper, ["/store", "/target", "-o", arguments[-1]]):
        names = [word.partition("=")[0] for word in arguments[-1].split(",")]
        assert all(names.count(name) <= 1 for name in _ONCE)


def _check(parse: Callable[[list[str]], mount_options.MountOptions], arguments: list[str]) -> bool:
    """Whether they are taken."""
    try:
        found = parse(arguments)
    except UsageError as error:
        assert error.step == "usage"
        assert str(error).isprintable()
        return False
    assert found.store
    assert found.target
    assert found.digest is not None
    assert found.digest.hex in "\0".join(arguments)
    assert (
        found.verity == "require"
        or any("verity=off" in text for text in arguments)
        or ("--verity" in arguments and "off" in arguments)
    )
    assert (found.upperdir is None) == (found.workdir is None)
    assert "" not in (found.image, found.upperdir, found.workdir)
    assert found.writable in (True, False)
    assert bool(found.attributes & RDONLY) != found.writable
    words = [word for text in arguments for word in text.split(",")]
    for word, attribute in (("nosuid", NOSUID), ("nodev", NODEV), ("noexec", NOEXEC)):
        assert word in words or not found.attributes & attribute
    return True
