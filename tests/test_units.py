# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Our units. Those for initrds: nothing lets a boot pass by the check, and each order has a reason.

tests/vm/test_units.py holds the order against the units of real systemds and dracuts.
"""

import os
import subprocess
from pathlib import Path

import pytest

from pyinit.host import mountd
from pyinit.host.mountd import image, serve

DIRECTORY = Path(__file__).parents[1] / "dracut-module"
UNIT = DIRECTORY / "cfs-setup-root.service"
FAILURE = DIRECTORY / "cfs-failure.service"
IMAGE = DIRECTORY / "cfs-mount@.service"
CONNECTION = DIRECTORY / "cfs-mountd@.service"
SOCKET = DIRECTORY / "cfs-mountd.socket"


def settings(unit: Path) -> list[tuple[str, str]]:
    """In their order."""
    lines = unit.read_text().splitlines()
    return [
        (key, value) for key, equals, value in (line.partition("=") for line in lines)
        if equals and not key.startswith("#")
    ]  # fmt: skip


@pytest.mark.parametrize("unit", [UNIT, FAILURE])
def test_no_condition_skips_it(unit: Path) -> None:
    """A unit that is skipped counts as done: the bare disk would be the root."""
    assert not [key for key, _ in settings(unit) if key.startswith("Condition")]
    assert ("AssertPathExists", "/etc/initrd-release") in settings(unit)


def test_the_root_file_system_of_an_initrd_requires_it() -> None:
    assert ("RequiredBy", "initrd-root-fs.target") in settings(UNIT)
    assert ("Requires", "sysroot.mount") in settings(UNIT)
    assert ("Before", "initrd-root-fs.target") in settings(UNIT)


def test_systemd_makes_its_nvpcr_before_it_is_extended() -> None:
    """And listens: what comes later is behind the separator of PCR 9, or finds nobody."""
    before = ("tpm2-setup-early.service", "pcrnvdone.service", "pcrextend.socket")
    assert {("After", f"systemd-{name}") for name in before} <= set(settings(UNIT))


def test_no_other_unit_composes_a_root(tmp_path: Path) -> None:
    """bootc's and its kind: after ours, and in initrds of dracut not at all."""
    others = {"bootc-root-setup", "composefs-setup-root", "ostree-prepare-root"}
    assert {("Before", f"{name}.service") for name in others} <= set(settings(UNIT))
    module = DIRECTORY / "90cfs/module-setup.sh"
    for _ in range(2):  # a second time over what is there
        subprocess.run(
            ["bash", "-c", '. "$1"; _cfs_mask', "bash", module],
            env={**os.environ, "initdir": str(tmp_path)}, check=True, timeout=600,
        )  # fmt: skip
    masked = {path.name: os.readlink(path) for path in (tmp_path / "etc/systemd/system").iterdir()}
    assert masked == {f"{name}.service": "/dev/null" for name in {*others, "systemd-repart"}}


def test_each_order_has_a_reason() -> None:
    """A comment above it, or above its neighbours."""
    explained = False
    for line in UNIT.read_text().partition("[Service]")[0].splitlines():
        if not line:
            explained = False
        elif line.startswith("#"):
            explained = True
        elif line.startswith(("After=", "Before=")) and not line.endswith("=shutdown.target"):
            assert explained, line


def test_a_shell_requires_the_unit_that_ends_the_machine() -> None:
    drop_in = settings(DIRECTORY / "90cfs/cfs-failure.conf")
    assert drop_in == [("Requires", "cfs-failure.service"), ("After", "cfs-failure.service")]
    assert ("ExecStart", "/usr/bin/cfs-setup-root --give-up") in settings(FAILURE)
    assert ("FailureAction", "reboot-force") in settings(FAILURE)


def test_an_image_is_mounted_for_everybody() -> None:
    """Each of these would give the service a mount namespace of its own (systemd.exec(5))."""
    own = (
        "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionDirectories",
        "ExtensionImages", "Inaccessible", "LoadCredential", "LogNamespace", "MountAPIVFS",
        "MountFlags", "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts",
        "PrivatePIDs", "PrivateTmp", "PrivateUsers", "ProcSubset", "Protect", "ReadOnlyPaths",
        "ReadWritePaths", "Root", "SetCredential", "TemporaryFileSystem",
    )  # fmt: skip
    assert not [key for key, _ in settings(IMAGE) if key.startswith(own)]
    # The command goes into a mount namespace and back; overlayfs looks at objects with the
    # capabilities of who mounted it.
    [(_, kept)] = [pair for pair in settings(IMAGE) if pair[0] == "CapabilityBoundingSet"]
    needed = {"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"}
    assert needed <= set(kept.split())
    assert ("RestrictNamespaces", "mnt") in settings(IMAGE)
    # It forbids openat2, where a filter cannot see the mode (systemd 257).
    assert "RestrictSUIDSGID" not in dict(settings(IMAGE))


def test_users_reach_the_service_and_it_reaches_little() -> None:
    found, opened = dict(settings(CONNECTION)), dict(settings(SOCKET))
    assert (opened["Accept"], opened["SocketMode"]) == ("yes", "0666")
    # Who connects often ends no socket; who is cut off leaves no unit.
    assert opened["TriggerLimitIntervalSec"] == "0"
    assert found["CollectMode"] == "inactive-or-failed"
    # Of one call, however long it waits. All that a connection has are more.
    assert int(found["RuntimeMaxSec"]) > image.SECONDS + serve.SECONDS
    assert found["ExecStart"].endswith(f" -Im {mountd.__name__}")
    assert found["CapabilityBoundingSet"] == "CAP_SYS_ADMIN"
    assert found["RestrictNamespaces"] == "mnt user"
    # What is mounted for all has to come in.
    assert not {"PrivateMounts", "MountFlags", "RootDirectory", "PrivateUsers"} & set(found)
    for key in ("StandardOutput", "StandardError"):  # not into the answer
        assert found[key] == "journal"
