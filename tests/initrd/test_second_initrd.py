# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Its steps; what they do to a machine is in tests/vm/test_second_initrd.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pyinit.initrd import second_initrd
from pyinit.initrd.handover import pcr, status
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root import compose
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing
from pyinit.initrd.source import handed_over
from pyinit.initrd.source.config import Config
from pyinit.initrd.source.decide import Decision
from pyinit.initrd.source.payload import Payload
from pyinit.initrd.state import layers

ROOT, INITRD = Digest(1, b"\xa1" * 32), Digest(1, b"\xb2" * 32)
FACTS = {
    "source": "carried", "level": "carried", "uki": "off", "secure_boot": "on",
    "command_line": "not looked at",
}  # fmt: skip


class Machine:
    """A store of one image; what is done, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[object] = []
        self.missing = False
        self.stage = SimpleNamespace(target="/sysroot", take_out=lambda mount: mount + 1)
        machine = self

        class Store:
            def __init__(self, path: str) -> None:
                self.path, self.objects = path, 5
                machine.done.append(("store", path))

            def open_image(self, digest: Digest) -> tuple[int, str]:
                path = f"{self.path}/images/{digest.hex}"
                if machine.missing:
                    raise ImageMissing("open", path, "gone", f"image {digest}")
                return 6, path

        root = SimpleNamespace(mount=8, used_loop=False, canary="init")
        patch.setattr(second_initrd, "Store", Store)
        patch.setattr(
            second_initrd, "VerifiedImage",
            lambda fd, path, digest: SimpleNamespace(path=path, digest=digest, verity="require"),
        )  # fmt: skip
        patch.setattr(layers, "MemoryLayers", lambda _, size: ("memory", size))
        patch.setattr(
            compose, "compose",
            lambda _, image, objects, flags, upper: self._do("compose", root, flags, upper),
        )  # fmt: skip
        patch.setattr(layers, "mount_point", lambda _, name: self._do("place", None, name))
        patch.setattr(pcr, "measure", lambda _, *what: self._do("measure", None, *what))
        patch.setattr(status, "write", lambda _, path: self._do("write", None, path))
        patch.setattr(status, "write_file", lambda path, data: self._do("write", None, path, data))
        patch.setattr(
            compose, "attach", lambda tree, target, _: self._do("attach", None, tree, target)
        )

    def _do(self, name: str, answer: object, *what: object) -> object:
        self.done.append((name, *what))
        return answer

    def attach(self, settings: Config, named: Payload) -> dict[str, status.Value]:
        decision = Decision(named, "carried", "off")
        return second_initrd.attach(
            self.stage, settings, decision, FACTS, ("dev", "run")  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


NAMED = Payload([ROOT], {"initrd": INITRD})


def test_its_steps(machine: Machine) -> None:
    """What is handed over is there before it is attached, and after all that may be refused."""
    settings = Config()
    settings.store = "/s"
    record = machine.attach(settings, NAMED)
    assert machine.done == [
        ("store", "/sysroot/s"), ("compose", 0, ("memory", "50%")), ("place", "dev"),
        ("place", "run"), ("measure", INITRD, "carried", "initrd"),
        ("write", "/run/cfs/initrd.json"),
        ("write", "/run/cfs/first-initrd", handed_over.write(FACTS, NAMED)),
        ("attach", 9, "/sysroot"),
    ]  # fmt: skip
    assert (record["store"], record["image"]) == ("/s", f"/s/images/{INITRD.hex}")
    assert "root" not in record


def test_a_store_and_a_size_of_its_own(machine: Machine) -> None:
    settings = Config()
    settings.initrd_store, settings.initrd_size = "/other", "4096"
    assert machine.attach(settings, NAMED)["store"] == "/other"
    assert machine.done[:2] == [("store", "/sysroot/other"), ("compose", 0, ("memory", "4096"))]


def test_one_that_is_missing_leads_to_nothing_else(machine: Machine) -> None:
    machine.missing = True
    with pytest.raises(Refused, match=f"expected image {INITRD}, which is initrd in the UKI"):
        machine.attach(Config(), NAMED)
    assert machine.done == [("store", "/sysroot/composefs")]


def test_who_may_start_it() -> None:
    settings, none = Config(), Decision(Payload([ROOT]), "carried", "off")
    one = Decision(NAMED, "carried", "off")
    assert second_initrd.is_named(settings, one, can_start=True)
    assert not second_initrd.is_named(settings, none, can_start=True)
    assert not second_initrd.is_named(settings, none, can_start=False)
    with pytest.raises(Refused, match="initrd=, a second initrd, expected none: only init"):
        second_initrd.is_named(settings, one, can_start=False)
    settings.initrd_device = "LABEL=boot"
    with pytest.raises(Refused, match="no initrd=, and the configuration has initrd-device=LABEL="):
        second_initrd.is_named(settings, none, can_start=False)
