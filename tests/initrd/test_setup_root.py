# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-setup-root`: its options, and what it refuses before it looks at a disk."""

import _cfs
from pathlib import Path

import pytest

from pyinit.initrd import cmdline, config, payload, rootdisk, setup_root, status, volatile_root
from pyinit.initrd.digest import Digest
from pyinit.initrd.errors import EXIT_OK, EXIT_REFUSED, EXIT_SYSTEM, EXIT_USAGE, Refused
from pyinit.initrd.image import ImageMissing

DIGEST = "ab" * 32
CANDIDATES = [Digest(1, bytes([number]) * 32) for number in range(3)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--soft-reboot="], "usage: --soft-reboot: its value is empty, expected a digest"),
        (["--soft-reboot"], "usage: --soft-reboot: its value is missing"),
        (["--soft-reboot", "ab"], "a digest of the wrong length"),
        (["--sysroot", "sysroot"], "usage: --sysroot: 'sysroot', expected an absolute path"),
        (["--soft"], "usage: --soft: unknown option"),
        (["--give-up="], "usage: --give-up: unknown option"),
        (["--root"], "usage: --root: its value is missing"),
        (["--root=a", "--soft-reboot", DIGEST], "usage: --root: not together with --soft-reboot"),
    ],
)
def test_wrong_use(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert setup_root.main(arguments) == EXIT_USAGE
    assert said in capfd.readouterr().err


def test_a_soft_reboot_needs_the_configuration_that_the_initrd_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The defaults would be another configuration than that of the boot."""
    initrd = tmp_path / "initrd.conf"
    initrd.write_bytes(config.format(config.Config()))
    monkeypatch.setattr(config, "PATH", str(initrd))
    monkeypatch.setattr(status, "CONFIG", str(tmp_path / "missing"))
    assert setup_root.main(["--soft-reboot", DIGEST]) == EXIT_USAGE
    assert f"config: {tmp_path}/missing: No such file" in capfd.readouterr().err


@pytest.mark.parametrize("linked", [True, False])
def test_announce_leaves_record_configuration_and_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    linked: bool,
) -> None:  # fmt: skip
    """The link only where it is asked for: who finds it lets in partitions of the disk."""
    link = tmp_path / "systemd" / "link"
    monkeypatch.setattr(status, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(status, "PATH", str(tmp_path / "root.json"))
    monkeypatch.setattr(status, "CONFIG", str(tmp_path / "setup-root.conf"))
    monkeypatch.setattr(volatile_root, "LINK", str(link))
    settings = config.Config()
    settings.etc = "bind"
    settings.volatile_root_link = linked
    record: dict[str, status.Value] = {
        "image": "/i", "digest": "d", "source": "carried", "etc": "bind", "var": "tmpfs",
        "device": "/dev/block/8:1", "missing_candidates": ["one"],
    }  # fmt: skip
    setup_root.announce("cfs-setup-root", record, settings)
    assert link.is_symlink() == linked
    assert not linked or link.readlink() == Path("/dev/block/8:1")
    assert config.load(str(tmp_path / "setup-root.conf")).etc == "bind"
    assert '"etc": "bind"' in (tmp_path / "root.json").read_text()
    assert capfd.readouterr().err.splitlines() == [
        "cfs-setup-root: candidate one has no image, going on to the next",
        "cfs-setup-root: root is /i (d, carried), /etc bind, /var tmpfs",
    ]


class Store:
    """Has an image by each of these names; each is an error, or is opened."""

    path = "/composefs"

    def __init__(self, images: dict[Digest, Exception | None]) -> None:
        self._images = images
        self.asked: list[Digest] = []

    def open_image(self, digest: Digest) -> tuple[int, str]:
        self.asked.append(digest)
        error = self._images.get(digest, ImageMissing("open", "/x", "missing"))
        if error is not None:
            raise error
        return -1, "/image"


def choose(store: Store) -> tuple[object, list[Digest]]:
    return setup_root.choose(store, CANDIDATES)  # type: ignore[arg-type]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Digest]:
    """What the kernel measures, one image after the other."""
    answers: list[Digest] = []
    monkeypatch.setattr(_cfs, "verity_measure", lambda _: answers.pop(0).pair)
    monkeypatch.setattr(_cfs, "image_header", lambda _: (True, 1, False, 0, 0))
    return answers


def test_a_missing_image_leads_to_the_next_candidate(measured: list[Digest]) -> None:
    first, second, _ = CANDIDATES
    measured += [second]
    image, missing = choose(Store({second: None}))
    assert getattr(image, "digest") == second  # noqa: B009
    assert missing == [first]


def test_a_wrong_image_never_does(measured: list[Digest]) -> None:
    """Else who has the disk spoils the first image and has the second one booted, an older one."""
    first, second, _ = CANDIDATES
    measured += [second, second]
    store = Store({first: None, second: None})
    with pytest.raises(Refused, match=f"measure: /image: {second}, expected {first}"):
        choose(store)
    assert store.asked == [first]


def test_nor_does_one_that_cannot_be_opened() -> None:
    first, second, _ = CANDIDATES
    store = Store({first: Refused("open", "/x", "a link that leads out"), second: None})
    with pytest.raises(Refused, match="leads out"):
        choose(store)
    assert store.asked == [first]


def test_the_last_one_that_is_missing_is_named() -> None:
    store = Store({})
    with pytest.raises(ImageMissing):
        choose(store)
    assert store.asked == CANDIDATES


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"cfsconf1\nfailure=reboot\nfailure-delay=0\n", EXIT_SYSTEM, "reboot in 0 s"),
        (b"cfsconf1\nfailure=poweroff\nfailure-delay=0\n", EXIT_SYSTEM, "poweroff in 0 s"),
        (b"cfsconf1\nfailure=shell\n", EXIT_OK, "a shell, since the configuration says so"),
        (b"nonsense", EXIT_SYSTEM, "reboot in 10 s"),
        (None, EXIT_SYSTEM, "reboot in 10 s"),
    ],
)
def test_giving_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    data: bytes | None, code: int, said: str,
) -> None:  # fmt: skip
    """A shell is the caller's matter; without a configuration that can be read there is none."""
    asked: list[int] = []
    monkeypatch.setattr("_cfs.reboot", asked.append)
    monkeypatch.setattr("time.sleep", lambda _: None)
    path = tmp_path / "conf"
    if data is not None:
        path.write_bytes(data)
    assert setup_root.main(["--give-up", "--config", str(path)]) == code
    assert capfd.readouterr().err.splitlines()[-1] == f"cfs-setup-root: {said}"
    assert len(asked) == (code != EXIT_OK)


def test_a_disk_of_ours_is_mounted_where_nothing_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is there, somebody else has mounted and may have read. No disk is looked for."""
    monkeypatch.setattr(rootdisk, "find", None)
    assert setup_root.main(["--root", "/dev/vda", "--sysroot", "/proc"]) == EXIT_REFUSED
    assert "refused: attach: /proc: something is mounted there already" in capfd.readouterr().err


def test_what_is_decided_before_the_disk_is_mounted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The configuration and the sources: no digest, no mount."""
    found: list[str] = []

    def find(spec: str, *_: object) -> str:
        found.append(spec)
        return "/dev/vda"

    monkeypatch.setattr(rootdisk, "find", find)
    monkeypatch.setattr(rootdisk, "mount", None)
    monkeypatch.setattr(payload, "CARRIED", str(tmp_path / "none"))
    settings = config.Config()
    settings.uki = "off"
    with pytest.raises(Refused, match=r"refused: source: .*not in this initrd"):
        setup_root.setup(settings, cmdline.parse(b""), str(tmp_path), root="UUID=1")
    assert found == ["UUID=1"]
