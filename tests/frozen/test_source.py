# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which source of CPython is taken, and which is refused."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pyinit.host.frozen import source
from pyinit.host.frozen.apt import AptError

MINE = f"{sys.version_info.major}.{sys.version_info.minor}.77"


def a_tree(place: Path, version: str = MINE) -> Path:
    """The files that are needed, with nothing in them but the version."""
    for name in (*source._NEEDED, source._MAKESETUP, source._VERSION_FILE):
        path = place / name
        if name in ("Include", "Objects", "Python", "Modules/clinic"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    numbers = zip(("MAJOR", "MINOR", "MICRO"), version.split("."), strict=True)
    text = "".join(f"#define PY_{name}_VERSION\t{number}\n" for name, number in numbers)
    (place / source._VERSION_FILE).write_text(text)
    (place / "Doc").mkdir()
    return place


def an_archive(tmp_path: Path) -> Path:
    archive = tmp_path / "Python.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(a_tree(tmp_path / "full"), "Python-3")
    return archive


def test_a_directory_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's source archive is unpacked already."""
    monkeypatch.setenv("PYTHON_SOURCE", str(a_tree(tmp_path / "tree")))
    assert source.tree(tmp_path) == tmp_path / "tree"


def test_another_minor_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_SOURCE", str(a_tree(tmp_path / "tree", "3.10.4")))
    with pytest.raises(source.SourceError, match=r"source of Python 3\.10\.4, and this is run by"):
        source.tree(tmp_path)


def test_what_is_no_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_SOURCE", str(tmp_path))
    with pytest.raises(source.SourceError, match=r"no source of Python: .*patchlevel\.h"):
        source.tree(tmp_path)
    (tmp_path / "Include").mkdir()
    (tmp_path / source._VERSION_FILE).write_text("#define PY_MAJOR_VERSION 3\n")
    with pytest.raises(source.SourceError, match=r"patchlevel\.h: no version of Python"):
        source.tree(tmp_path)


def test_an_archive_whose_hash_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_SOURCE", str(an_archive(tmp_path)))
    with pytest.raises(source.SourceError, match=r"SHA-256 is [0-9a-f]{64}, which is that of none"):
        source.tree(tmp_path)
    monkeypatch.setenv("PYTHON_SOURCE", "/nowhere/Python.tar.xz")
    with pytest.raises(source.SourceError, match=r"PYTHON_SOURCE: .*/nowhere/Python\.tar\.xz"):
        source.tree(tmp_path)


def test_of_a_known_archive_what_is_needed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = an_archive(tmp_path)
    digest = subprocess.run(
        ["sha256sum", archive], capture_output=True, text=True, check=True, timeout=600
    ).stdout.split()[0]
    monkeypatch.setitem(source.KNOWN, digest, "a test's")
    monkeypatch.setenv("PYTHON_SOURCE", str(archive))
    found = source.tree(tmp_path / ".")
    assert (found / "configure").exists()
    assert not (found / "Doc").exists()
    assert not (tmp_path / "unpacked").exists()
    archive.unlink()  # it is unpacked once, and known by its hash
    with pytest.raises(source.SourceError, match="PYTHON_SOURCE"):
        source.tree(tmp_path)


def test_a_source_with_a_part_missing(tmp_path: Path) -> None:
    full = a_tree(tmp_path / "full")
    (full / "configure").unlink()
    with pytest.raises(source.SourceError, match="configure is missing"):
        source._keep(full, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


class Mirror:
    """What a mirror offers, and what of it can be had."""

    def __init__(self, *there: str) -> None:
        self.there = there

    def versions(self, package: str) -> list[str]:
        assert package == "python3.11"
        return ["3.11.2-6+deb12u9", "3.11.2-6+deb12u8"]

    def fetch(self, package: str, wanted: str) -> Path:
        if wanted not in self.there:
            raise AptError(f"404 {package} {wanted}")
        return Path(f"/{wanted}.dsc")


def test_the_newest_version_is_taken() -> None:
    mirror = Mirror("3.11.2-6+deb12u8", "3.11.2-6+deb12u9")
    assert source._newest(mirror, "python3.11") == (Path("/3.11.2-6+deb12u9.dsc"), "")


def test_a_version_that_is_offered_and_not_there_is_told() -> None:
    """As it was seen: a mirror without the sources of its security updates."""
    found, said = source._newest(Mirror("3.11.2-6+deb12u8"), "python3.11")
    assert found == Path("/3.11.2-6+deb12u8.dsc")
    first, last = said.splitlines()
    assert first == (
        "python3.11 3.11.2-6+deb12u9 is offered, and cannot be fetched: "
        "404 python3.11 3.11.2-6+deb12u9"
    )
    assert "python3.11 3.11.2-6+deb12u8 is taken, which is behind: do not release" in last
    with pytest.raises(source.SourceError, match="404"):
        source._newest(Mirror(), "python3.11")


def test_each_build_says_that_its_source_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PYTHON_SOURCE", raising=False)
    kept = a_tree(tmp_path / f"source-python{MINE.rpartition('.')[0]}")
    (kept / source.BEHIND).write_text("one\ntwo\n")
    for _ in range(2):
        assert source.tree(tmp_path) == kept
        assert capfd.readouterr().err == "build_frozen: one\nbuild_frozen: two\n"
    (kept / source.BEHIND).write_text("")
    source.tree(tmp_path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("newest", "is_behind"),
    [
        ("3.11.2-6+deb12u9", False),
        ("3.11.2-6+deb12u8", False),  # a mirror that is behind
        ("3.11.2-6+deb12u10", True),  # not by its letters
    ],
)
def test_a_source_that_was_fetched_once_is_compared_with_what_is_on_offer(
    newest: str, is_behind: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHON_SOURCE", raising=False)
    package = f"python{MINE.rpartition('.')[0]}"
    kept = a_tree(tmp_path / f"source-{package}")
    (kept / source.BEHIND).write_text("")
    (kept / source.DEBIAN_VERSION).write_text("3.11.2-6+deb12u9\n")

    class Apt:
        def __init__(self, place: Path) -> None:
            place.mkdir()

        def update(self) -> None: ...

        def versions(self, wanted: str) -> list[str]:
            assert wanted == package
            return [newest, "3.11.2-6"]

    monkeypatch.setattr(source, "Apt", Apt)
    said = source.behind(tmp_path)
    have = f"{package} 3.11.2-6+deb12u9 is built from"
    assert said.startswith(f"{have}, and {newest} is on offer: do not release") is is_behind
    assert (said == "") is not is_behind
    assert not (tmp_path / "apt").exists()


def test_a_source_of_ones_own_is_not_called_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_SOURCE", "/some/where")
    assert "PYTHON_SOURCE is /some/where: whether" in source.behind(tmp_path)


def test_a_tree_in_which_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """make would take its objects, which are of another compiler and libc."""
    (a_tree(tmp_path / "tree") / "Makefile").touch()
    monkeypatch.setenv("PYTHON_SOURCE", str(tmp_path / "tree"))
    with pytest.raises(source.SourceError, match="something was built in it"):
        source.tree(tmp_path)
