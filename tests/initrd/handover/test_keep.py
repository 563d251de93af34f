# SPDX-License-Identifier: Apache-2.0 OR MIT
"""systemd leaves alone what was mounted inside of the root, and nothing else."""

import os
from pathlib import Path

import pytest

from pyinit.initrd.handover import keep, status


def record(var: str, sysroot: str = "read-only", etc: str = "bind") -> "dict[str, status.Value]":
    return {"root": "sealed", "etc": etc, "var": var, "sysroot": sysroot}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record("tmpfs"), ["var", "sysroot"]),
        (record("bind", "writable"), ["var", "sysroot"]),
        (record("transient-disk", "not shown: no such directory in the image"), ["var"]),
        # Somebody's own line of fstab is for /var then, and none of our business.
        (record("none"), ["sysroot"]),
        (record("none", "not shown: no such directory in the image"), []),
        ({}, []),
        (
            record("none", "")
            | {
                "extensions": {
                    "confext.a": {"digest": "sha256:1", "mounted": "/run/confexts/a"},
                    "sysext.a-b_1.0": {"mounted": "/run/extensions/a-b_1.0"},
                    "sysext.missing": {"digest": "sha256:1"},
                }
            },
            [
                "run-confexts-a",
                r"run-extensions-a\x2db_1.0",
                "etc-extensions",
                "etc-confexts",
                "var-lib-extensions",
                "var-lib-confexts",
            ],
        ),
    ],
)
def test_what_is_kept(given: "dict[str, status.Value]", expected: list[str]) -> None:
    """systemd never stops /, /usr and /etc."""
    assert keep.mounts(given) == expected


def test_a_drop_in_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "UNITS", str(tmp_path / "system"))
    keep.write(record("none", "not shown: no such directory in the image"))
    assert os.listdir(tmp_path) == []
    for _ in range(2):  # as a soft reboot finds it
        keep.write(record("tmpfs"))
    keep.write(record("none"))  # the next root's: those of the running one stay
    for name in ("var", "sysroot"):
        text = (tmp_path / f"system/{name}.mount.d/cfs.conf").read_text()
        assert text.endswith("[Unit]\nDefaultDependencies=no\n")
    assert sorted(os.listdir(tmp_path / "system")) == ["sysroot.mount.d", "var.mount.d"]
