# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A root that mkosi built with our module boots, and only when it is sealed."""

import json
import re

import pytest

from pyinit.host.commands import cfs_uki

from . import disk_watch
from .mkosi import Built, Part, built, report, start, watched
from .mounts import PARTS
from .toolbox import Toolbox

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def image(toolbox: Toolbox) -> Built:
    return built(toolbox, PARTS)


@pytest.fixture(scope="module")
def said(toolbox: Toolbox) -> dict[str, Part]:
    return report(toolbox, PARTS)


def test_it_boots_to_running(said: dict[str, Part]) -> None:
    assert said["state"].text == "running\n", said["failed"].text


def test_the_root_is_the_image(said: dict[str, Part], image: Built) -> None:
    record = json.loads(said["record"].text)
    assert record["digest"] == image.digest
    assert (record["verity"], record["level"]) == ("require", "carried")
    digest = image.digest.removeprefix("sha256:")
    assert re.match(rf"composefs:{digest} +overlay +ro,.*verity=require", said["root"].text)
    assert "Read-only file system" in said["write"].text


def test_what_packages_left_in_var_is_there(said: dict[str, Part]) -> None:
    assert said["dpkg"].code == 0
    assert said["dpkg"].text.startswith("systemd\t")


def test_its_uki_names_the_digest(image: Built, capsys: pytest.CaptureFixture[str]) -> None:
    """By the copy in the initrd alone: mkosi gives ukify no section."""
    assert cfs_uki.main(["digests", str(image.directory / "sealed.efi")]) == 0
    assert capsys.readouterr() == (f"{image.digest}\n", "")


def test_firmware_can_read_the_esp(image: Built) -> None:
    """Its sectors are the disk's. The firmware here takes others too, but not every one does."""
    with image.unsealed.open("rb") as disk:
        disk.seek(512)
        assert disk.read(8) == b"EFI PART"
        disk.seek(1024 + 32)  # the first partition's first sector
        disk.seek(512 * int.from_bytes(disk.read(8), "little"))
        boot_sector = disk.read(512)
    assert boot_sector.startswith((b"\xeb", b"\xe9"))
    assert int.from_bytes(boot_sector[11:13], "little") == 512


def test_nobody_but_init_touches_the_disk_before_the_root_is_attached(
    toolbox: Toolbox, image: Built
) -> None:
    console = watched(toolbox, image)
    record = re.search(r"^record: (.*)$", console.text.replace("\r", ""), re.MULTILINE)
    assert record, console.tail
    found = disk_watch.on_console(console.text)
    disk_watch.check(found, json.loads(record[1])["device"], "init")


def test_unsealed_it_is_refused(toolbox: Toolbox, image: Built) -> None:
    console = start(toolbox, image.unsealed)
    digest = image.digest.removeprefix("sha256:")
    assert re.search(rf"init: refused: measure: \S+{digest[2:]}: ", console.text), console.tail
    assert not console.results


def test_the_initrd_is_small(image: Built) -> None:
    """cfs-init, the drivers of common machines, file systems: no distribution in it."""
    assert image.initrd.stat().st_size < 10 << 20
