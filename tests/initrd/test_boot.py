# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The boot flow, as far as it needs no disk: which image is taken, and what comes first."""

import _cfs
from pathlib import Path

import pytest

from pyinit.initrd import boot
from pyinit.initrd.machine import rootdisk
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing
from pyinit.initrd.source import cmdline, config, payload

CANDIDATES = [Digest(1, bytes([number]) * 32) for number in range(3)]


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
    return boot.choose(store, CANDIDATES)  # type: ignore[arg-type]


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
        boot.setup(settings, cmdline.parse(b""), str(tmp_path), root="UUID=1")
    assert found == ["UUID=1"]
