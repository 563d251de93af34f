# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Arguments of mount.cfs (mount options among them) and of cfs-mount, divided by NUL."""

from collections.abc import Callable

from pyinit.initrd.kernel.mounting import NODEV, NOEXEC, NOSUID, RDONLY
from pyinit.initrd.programs import mount_options
from pyinit.initrd.report.errors import UsageError

# What is restricted, and the words that do it. mount(8): user and its kin imply some.
_RESTRICTED = {
    NOSUID: {"nosuid", "user", "users", "owner", "group"},
    NODEV: {"nodev", "user", "users", "owner", "group"},
    NOEXEC: {"noexec", "user", "users"},
}
_ONCE = ("digest", "image", "name", "upperdir", "workdir", "verity")


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
    assert found.store or found.name
    assert found.target
    assert found.digest is not None or found.remount or found.name
    assert found.name is None or (found.digest, found.image, found.verity) == (
        None,
        None,
        "require",
    )
    assert found.digest is None or found.digest.hex in "\0".join(arguments)
    assert (
        found.verity == "require"
        or any("verity=off" in text for text in arguments)
        or ("--verity" in arguments and "off" in arguments)
    )
    assert (found.upperdir is None) == (found.workdir is None)
    assert "" not in (found.image, found.upperdir, found.workdir)
    if not found.remount:  # of what is there
        assert found.writable in (True, False)
        assert bool(found.attributes & RDONLY) != found.writable
    words = {word.partition("=")[0] for text in arguments for word in text.split(",")}
    for attribute, wanted in _RESTRICTED.items():
        assert words & wanted or found.name or not found.attributes & attribute
    return True
