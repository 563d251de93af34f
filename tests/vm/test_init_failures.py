# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cfs-init as PID 1 of a namespace in a guest: how it fails where no boot is needed to see it.

It stands alone in a tmpfs or on a disk, and reboot(2) ends it by the signal that tells the action
(pid_namespaces(7)).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .cases import Case, LazyResults, Results, run_cases
from .disks import MIB, ext4
from .guest import Disk
from .initrd import CONFIG, FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES, configuration
from .product import cfs_init, refusal
from .rootdisk import CARRIED, RootDisk
from .toolbox import Toolbox

# What ends the namespace's init: reboot(2) in it.
REBOOTED, POWERED_OFF = 128 + 1, 128 + 2
ALONE = """
mkdir -p /tmp/alone && mount -t {kind} {source} /tmp/alone || exit 90
mkdir -p /tmp/alone/usr/lib/composefs
cp /usr/bin/{program} /tmp/alone/init
{prepare}
dmesg -c >/dev/null
find /tmp/alone -xdev | sort >/tmp/found
unshare -m -p -f chroot /tmp/alone /init
code=$?
find /tmp/alone -xdev | sort | grep -vxE '/tmp/alone/(proc|sys|dev|run|sysroot)' >/tmp/found2
cmp /tmp/found /tmp/found2 >&2 || code=91
umount /tmp/alone || code=92
exit $code
"""
CARRY = "cp {carried} /tmp/alone/" + CARRIED + "\n"
CONFIGURE = "cp {configuration} /tmp/alone/" + CONFIG + "\n"

NOT_AN_INITRAMFS = (
    r"\Ainit: root is .*\n"
    r"init: refused: switch-root: /: not the initramfs that the kernel unpacked, expected rootfs\n"
)


def _refused(step: str, path: str, found: str, expected: str = "", end: str = "reboot") -> str:
    line = refusal(step, path, found, expected, program="init").removesuffix(r"\Z")
    # The shell says what signal it was, where it was SIGHUP.
    return rf"{line}init: {end} in 0 s\n(Hangup\n)?\Z"


def _cases() -> Iterator[Case]:
    def case(
        name: str,
        carried: str | None,
        stderr: str,
        *,
        settings: str = "reboot",
        code: int = REBOOTED,
        prepare: str = "",
        program: str = "cfs-init",
        disk: bool = False,
    ) -> Case:
        carry = CARRY.format(carried=f"/guest/carried/{carried}") if carried else ""
        configure = CONFIGURE.format(configuration=f"/guest/configuration/{settings}")
        script = ALONE.format(
            prepare=carry + configure + prepare,
            program=program,
            kind="ext4" if disk else "tmpfs",
            source="/dev/vdb" if disk else "alone",
        )
        return Case(name, script, code=code, stderr=stderr)

    carried = f"/{CARRIED}"
    absent = r"No such file or directory \(ENOENT\)"
    yield case(
        "missing-carried",
        None,
        _refused("source", carried, "not in this initrd", "the file that cfs-uki seal adds .*"),
    )
    yield case("empty-carried", "empty", _refused("source", carried, "it is empty", ".*"))
    yield case(
        "cut-carried",
        "cut",
        _refused("source", carried, r"the last line has no LF: it may have been cut"),
    )
    yield case(
        "directory-carried",
        None,
        r"init: error: source: .*Is a directory \(EISDIR\)\n",
        prepare=f"mkdir /tmp/alone{carried}\n",
    )
    yield case(
        "wrong-digest",
        "wrong",
        _refused("open", "/sysroot/composefs/objects/00/0{62}", absent, "image sha256:0{64}"),
    )
    yield case(
        "wrong-digest-powers-off",
        "wrong",
        _refused("open", ".*", absent, "image sha256:0{64}", "poweroff"),
        settings="poweroff",
        code=POWERED_OFF,
    )
    yield case(
        "shell-that-is-not-there",
        "wrong",
        r"init: /bin/sh: No such file .*\n"
        r"init: reboot in 0 s\n(Hangup\n)?\Z",
        settings="shell",
    )
    yield case(
        "broken-configuration",
        "whole",
        r"init: error: config: .*\ninit: reboot in 10 s\n",
        settings="broken",
    )
    yield case(
        "exception",
        "whole",
        r"File .failing_canary.py., line 7, in check\n"
        r"KeyError: .*nobody expected this.*\ninit: reboot in 0 s\n(Hangup\n)?\Z",
        program="crashing",
    )
    for lacking in ("var", "etc", "run"):
        yield case(
            f"image-without-{lacking}",
            f"no-{lacking}",
            _refused("state", f"/{lacking}", absent, "a directory in the image"),
        )
    yield case("not-an-initramfs", "whole", NOT_AN_INITRAMFS)
    yield case("not-an-initramfs-but-a-disk", "whole", NOT_AN_INITRAMFS, disk=True)


_CASES = list(_cases())


@pytest.fixture(scope="session")
def alone(
    toolbox: Toolbox, rootdisk: RootDisk, crashing: Path, tmp_path_factory: pytest.TempPathFactory
) -> LazyResults:
    """All failures in one boot."""
    directory = tmp_path_factory.mktemp("alone")
    (directory / "empty").mkdir()
    carried = {name: rootdisk.carried(name) for name in rootdisk.digests}
    carried["wrong"] = rootdisk.carried("0" * 64)
    carried["empty"] = b""
    carried["cut"] = carried["whole"][:-1]
    configurations = {name: configuration(failure=name) for name in ("reboot", "poweroff", "shell")}
    configurations["broken"] = b"cfsconf1\nfailure=never\n"

    def run() -> Results:
        return run_cases(
            toolbox,
            toolbox.kernel("stable"),
            _CASES,
            append="root=/dev/vda",
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            disks=[
                Disk(rootdisk.disk("ext4"), discard_writes=True),
                Disk(ext4(toolbox, directory / "disk", directory / "empty", 16 * MIB)),
            ],
            files={
                "usr/bin/cfs-init": cfs_init(),
                "usr/bin/crashing": crashing,
                **{f"guest/carried/{name}": data for name, data in carried.items()},
                **{f"guest/configuration/{name}": data for name, data in configurations.items()},
            },
        )

    return LazyResults(run)


@pytest.mark.parametrize("name", [case.name for case in _CASES])
def test_failure(alone: LazyResults, name: str) -> None:
    alone.check(name)


@pytest.mark.parametrize("name", ["missing-carried", "exception"])
def test_a_failure_is_in_the_kernel_log_too(alone: LazyResults, name: str) -> None:
    result = alone.check(name)
    end = result.stderr.index("init: reboot in")
    for line in result.stderr[:end].splitlines():
        assert f"cfs-init: {line.removeprefix('init: ')}" in result.kernel
