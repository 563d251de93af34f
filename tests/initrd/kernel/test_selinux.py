# SPDX-License-Identifier: Apache-2.0 OR MIT
from pathlib import Path

import pytest

from pyinit.initrd.kernel import files, selinux


def test_it_is_on_where_the_kernel_has_a_place_for_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "selinux"
    monkeypatch.setattr(selinux, "_MOUNT_POINT", str(place))
    assert not selinux.is_on()
    place.mkdir()
    assert selinux.is_on()


def test_where_nobody_knows_it_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(selinux, "_MOUNT_POINT", str(tmp_path / "file/selinux"))
    assert not selinux.is_on()


@pytest.mark.parametrize(
    ("data", "is_on", "expected"),
    [
        (b"system_u:system_r:mount_t:s0\0", True, "system_u:system_r:mount_t:s0"),
        (b"kernel\0", True, ""),  # no policy is loaded
        (b"a:b:\xff\0", True, "a:b:\\xff"),
        (b"system_u:system_r:mount_t:s0\0", False, ""),
        (None, True, ""),
    ],
)
def test_the_context_of_this_process(
    monkeypatch: pytest.MonkeyPatch, data: bytes | None, is_on: bool, expected: str
) -> None:
    def read(path: str, _limit: int) -> bytes:
        assert path == "/proc/self/attr/current"
        if data is None:
            raise OSError
        return data

    monkeypatch.setattr(selinux, "is_on", lambda: is_on)
    monkeypatch.setattr(files, "read", read)
    assert selinux.context() == expected
