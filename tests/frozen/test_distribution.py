# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Where the distribution has no libpython that can be linked."""

from pathlib import Path

import pytest

from pyinit.host.frozen import distribution


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"ID": "debian"}, "install libpython3-dev, and"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "install libpython3-dev, and"),
        ({"ID": "fedora"}, "install python3-devel ("),
        ({"ID": "centos", "ID_LIKE": "rhel fedora"}, "install python3-devel ("),
        ({"ID": "other"}, "install the package with the static"),
        (None, "install the package with the static"),
    ],
)
def test_a_missing_library_is_told_with_its_package(
    about: dict[str, str] | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def release() -> dict[str, str]:
        if about is None:
            raise FileNotFoundError
        return about

    monkeypatch.setattr("platform.freedesktop_os_release", release)
    monkeypatch.setattr("sysconfig.get_config_var", lambda _: str(tmp_path))
    with pytest.raises(distribution.MissingLibraryError) as caught:
        distribution.library()
    assert "-pic.a is missing: " + said in str(caught.value)
