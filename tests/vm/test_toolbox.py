# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The toolbox and archives of our own: what it takes from them, and what it says of their lacks.

They are signed with a key of the test, since apt's checks are on as they are for Debian's.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from . import apt, kernels, suites, toolbox
from .apt import PackageError
from .suites import Choice, first_with
from .toolbox import Toolbox

META = kernels.META
_GPG = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")


@dataclass(frozen=True)
class Package:
    """A package, and the (empty) files in it."""

    version: str
    depends: str = ""
    files: tuple[str, ...] = ()


def kernel(version: str, release: str, meta: str = META) -> dict[str, Package]:
    """Split in parts as newer ones are."""
    modules = f"usr/lib/modules/{release}"
    return {
        meta: Package(version, f"linux-image-{release} (= {version})"),
        f"linux-image-{release}": Package(version, f"linux-binary-{release}, kmod | other"),
        f"linux-binary-{release}": Package(version, "", (f"{modules}/vmlinuz",)),
    }


class Archive:
    """A mirror in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "gnupg"
        self.home.mkdir(parents=True, mode=0o700)
        self._gpg("--quick-generate-key", "Archive of a test", "ed25519", "sign", "never")
        self._gpg("--output", root / "key.gpg", "--export")

    def _gpg(self, *arguments: str | Path) -> None:
        subprocess.run([*_GPG, "--homedir", self.home, *arguments], check=True, timeout=600)

    def stop(self) -> None:
        subprocess.run(
            ["gpgconf", "--homedir", self.home, "--kill", "gpg-agent"], check=True, timeout=600
        )

    def suite(self, name: str, packages: Mapping[str, Package], days: float = 7) -> None:
        """A suite whose index is good for so many days from now on."""
        listed = "".join(self._package(name, package) for name, package in packages.items())
        directory = self.root / "dists" / name
        index = directory / "main/binary-amd64/Packages"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text(listed)
        now = datetime.now(UTC)
        dates = {"Date": now - timedelta(days=30), "Valid-Until": now + timedelta(days=days)}
        digest = hashlib.sha256(index.read_bytes()).hexdigest()
        release = directory / "Release"
        release.write_text(
            f"Suite: {name}\nCodename: {name}\nArchitectures: amd64\nComponents: main\n"
            + "".join(f"{key}: {format_datetime(at, True)}\n" for key, at in dates.items())
            + f"SHA256:\n {digest} {index.stat().st_size} main/binary-amd64/Packages\n"
        )
        signed = directory / "InRelease"
        signed.unlink(missing_ok=True)
        self._gpg("--output", signed, "--clearsign", release)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.root / "dists" / name)

    def replace(self, name: str, other: "Archive") -> None:
        """By a suite that is signed by the other's key."""
        self.remove(name)
        shutil.copytree(other.root / "dists" / name, self.root / "dists" / name)

    def _package(self, name: str, package: Package) -> str:
        tree = self.root / "trees" / name
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        control = (
            f"Package: {name}\nVersion: {package.version}\nArchitecture: amd64\n"
            "Maintainer: a test\nDescription: none\n"
        )
        control += f"Depends: {package.depends}\n" if package.depends else ""
        (tree / "DEBIAN/control").write_text(control)
        for file in package.files:
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).touch()
        pool = self.root / "pool"
        pool.mkdir(exist_ok=True)
        deb = pool / f"{name}_{package.version}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", tree, deb],
            check=True, capture_output=True, timeout=600,
        )  # fmt: skip
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        return (
            f"{control}Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n\n"
        )


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    made = Archive(tmp_path_factory.mktemp("mirror"))
    yield made
    made.stop()


@pytest.fixture
def archive(mirror: Archive, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """The mirror of this machine, under apt's own settings. Each suite has its kernel."""
    monkeypatch.setattr(apt, "machine_mirror", lambda: f"file://{mirror.root}")
    monkeypatch.setattr(apt, "keyring", lambda: mirror.root / "key.gpg")
    monkeypatch.setattr(apt, "machine_acquire_settings", str)
    mirror.suite(suites.OLDEST, kernel("6.1.9-1", "6.1.0-9-cloud-amd64"))
    mirror.suite(suites.STABLE, kernel("6.12.9-1", "6.12.9+deb13-cloud-amd64"))
    mirror.suite(suites.BACKPORTS, kernel("99.1.2-1~bpo13+1", "99.1.2+deb13-cloud-amd64"))
    mirror.suite(suites.LATER[0], kernel("99.2.0-1", "99.2.0+deb14-cloud-amd64"))
    mirror.suite(suites.LATER[1], kernel("99.3.0-1", "99.3.0+deb15-cloud-amd64"))
    return mirror


@pytest.fixture
def box(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolbox:
    """With tools that do nothing: kernels are what it is about."""
    box = Toolbox(tmp_path / "box")
    monkeypatch.setattr(Toolbox, "_make_tools", lambda box, tree: None)
    monkeypatch.setattr(Toolbox, "_make_peers", lambda box, tree: None)
    monkeypatch.setattr(Toolbox, "run", lambda box, *arguments: "")
    return box


def test_a_series_that_nobody_has_seen(box: Toolbox, capsys: pytest.CaptureFixture[str]) -> None:
    newest = box.kernel(kernels.NEWEST)
    assert (newest.version, newest.series) == ("99.1.2+deb13-cloud-amd64", "99.1")
    assert not newest.seen
    assert newest.vmlinuz.exists()
    said = capsys.readouterr().err
    assert said.count(f"kernel newest: 99.1.2-1~bpo13+1 of {suites.BACKPORTS} (series 99.1, ") == 1
    assert box.kernel(kernels.STABLE).seen


def test_what_was_fetched_is_there_without_a_mirror(
    box: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = box.kernel(kernels.NEWEST)

    def gone() -> str:
        raise AssertionError("the mirror was asked")

    monkeypatch.setattr(apt, "machine_mirror", gone)
    assert Toolbox(before.modules_dir.parents[4]).kernel(kernels.NEWEST) == before


def test_an_empty_suite_and_one_that_is_gone(archive: Archive, box: Toolbox) -> None:
    archive.suite(suites.BACKPORTS, {})
    archive.remove(suites.LATER[0])
    assert box.kernel(kernels.NEWEST).series == "99.3"


def test_a_series_that_is_gone_everywhere(archive: Archive, box: Toolbox, tmp_path: Path) -> None:
    """The others can be had, and the mirror is not asked again."""
    archive.suite(suites.BACKPORTS, {})
    archive.remove(suites.LATER[0])
    archive.suite(suites.LATER[1], kernel("6.12.20-1", "6.12.20+deb15-cloud-amd64"))
    message = (
        f"kernel 'newest': {suites.BACKPORTS} has no package {META}, "
        f"{suites.LATER[0]} is not on the mirror, "
        f"{suites.LATER[1]} has 6.12.20-1, no newer series than stable's 6.12.9-1; "
        "all else can be run: pytest -k 'not newest'"
    )
    for asked in (box, Toolbox(tmp_path / "box")):
        with pytest.raises(PackageError) as caught:
            asked.kernel(kernels.NEWEST)
        assert str(caught.value) == message
        archive.suite(suites.BACKPORTS, kernel("99.1.3-1", "99.1.3-cloud-amd64"))
    assert box.kernel(kernels.REFUSES).series == "6.1"


def test_an_expired_index(
    archive: Archive, box: Toolbox, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Not passed over: its packages would be as old."""
    archive.suite(suites.BACKPORTS, kernel("99.1.2-1", "99.1.2-cloud-amd64"), days=-3)
    monkeypatch.setattr(toolbox, "Toolbox", lambda: box)
    assert toolbox.main([]) == 1
    said = capsys.readouterr().err.splitlines()
    [line] = [line for line in said if not line.startswith("toolbox: ")]
    assert line.startswith(f"kernel 'newest': suite {suites.BACKPORTS}: ")
    assert "is expired" in line
    assert line.endswith("; all else can be run: pytest -k 'not newest'")


def test_an_index_of_another_key(archive: Archive, box: Toolbox, tmp_path: Path) -> None:
    other = Archive(tmp_path / "other")
    try:
        other.suite(suites.STABLE, kernel("6.12.9-1", "6.12.9+deb13-cloud-amd64"))
        archive.replace(suites.STABLE, other)
        with pytest.raises(PackageError, match=f"kernel 'stable': suite {suites.STABLE}: .*") as no:
            box.kernel(kernels.STABLE)
    finally:
        other.stop()
    assert "\n" not in str(no.value)


@pytest.mark.usefixtures("archive")
def test_a_tool_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Toolbox(tmp_path / "box")
    with pytest.raises(PackageError) as caught:
        _ = box.tree
    assert str(caught.value).startswith(f"tools: suite {suites.STABLE}: apt-get -q -y: ")
    assert f"Unable to locate package {toolbox.TOOLS[0]}" in str(caught.value)
    assert str(caught.value).endswith("; lint can be run, and what uses none")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(toolbox, "Toolbox", lambda: box)
    capsys.readouterr()
    assert toolbox.main(["mkcomposefs"]) == 1
    assert capsys.readouterr() == ("", f"{caught.value}\n")


@dataclass(frozen=True)
class Made:
    """Toolboxes with tools that do nothing and peers as they are made, and their place."""

    archive: Archive
    place: Path


@pytest.fixture
def made(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(Toolbox, "_make_tools", lambda box, tree: (tree / "run").mkdir())
    return Made(archive, tmp_path / "box")


def test_a_peer_that_no_suite_has(made: Made) -> None:
    """Who asks for none does not see it. The line says who does."""
    box = Toolbox(made.place)
    assert box.bin.is_dir()
    assert not (made.place / "apt").exists()
    with pytest.raises(PackageError) as caught:
        box.command("mkcomposefs")
    assert str(caught.value) == (
        f"peers: {suites.LATER[0]} has no package composefs, "
        f"{suites.LATER[1]} has no package composefs; "
        "what needs no composefs-info, mkcomposefs or mount.composefs can be run"
    )
    with pytest.raises(FileNotFoundError, match="no program 'busybox' in the toolbox"):
        box.command("busybox")


@pytest.mark.parametrize("there", [0, 1])
def test_peers_come_from_the_first_suite_that_has_them(made: Made, there: int) -> None:
    """They are in no directory for PATH: nobody runs one by chance."""
    programs = ("usr/bin/composefs-info", "usr/bin/mkcomposefs", "usr/sbin/mount.composefs")
    composefs = Package("2.0-1", files=programs)
    made.archive.suite(
        suites.LATER[there], {"composefs": composefs, "libcomposefs1": Package("2.0-1")}
    )
    box = Toolbox(made.place)
    choice = first_with("composefs", suites.LATER, box.offered("composefs"))
    assert choice == Choice(suites.LATER[there], "2.0-1")
    assert all((box.peers / name).exists() for name in programs)
    assert not any((box.bin / Path(name).name).exists() for name in programs)
