# SPDX-License-Identifier: Apache-2.0 OR MIT
"""root.json, as the boot flow makes it, is what its schema says."""

import _cfs
import json
from types import SimpleNamespace
from typing import Any, Self

import jsonschema
import pytest

from pyinit.initrd import boot
from pyinit.initrd.handover import volatile_root
from pyinit.initrd.handover.status import to_json
from pyinit.initrd.root import compose, embedded, memory_store, stacking
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import decide, esp
from pyinit.initrd.source.cmdline import CommandLine
from pyinit.initrd.source.config import Config
from pyinit.initrd.source.decide import Decision
from pyinit.initrd.source.esp import UkiDigests
from pyinit.initrd.source.payload import Payload
from pyinit.initrd.state import layers
from tests.docs.blocks import DOCS

SCHEMA = json.loads((DOCS / "reference/root.schema.json").read_text())
FIRST, SECOND = (Digest(_cfs.SHA256, bytes([number] * 32)) for number in (1, 2))


class FakeStage:
    """Nothing is mounted; everything else of the flow is the real one."""

    leftovers = None
    base = -1
    target = "/sysroot"

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def take_out(self, mount: int) -> int:
        return mount


def record(
    monkeypatch: pytest.MonkeyPatch,
    settings: Config,
    command_line: bool | None,
    held: embedded.EmbeddedImage | None = None,
) -> Any:
    """Of a boot whose system calls all succeed, read back from its JSON."""
    uki = UkiDigests()
    uki.command_line = command_line
    image = held or SimpleNamespace(
        digest=SECOND, path=f"/sysroot/composefs/images/{SECOND.hex}", verity="require",
        embedded=False,
    )  # fmt: skip
    root = SimpleNamespace(
        mount=3, used_loop=False, objects=4, canary="etc/hosts", is_free=False
    )  # fmt: skip
    place = {"path": "/state/deploy/d/etc", "kind": "directory", "created": True}
    state = SimpleNamespace(
        look=lambda: None, etc=lambda: settings.etc, var=lambda: "tmpfs", places={"etc": place}
    )
    replaced: dict[Any, dict[str, Any]] = {
        boot: {
            "Stage": FakeStage,
            "Store": lambda _path: SimpleNamespace(objects=4),
            "choose": lambda *_: (image, [FIRST]),
        },
        esp: {"look": lambda *_: uki},
        decide: {
            "carried": lambda: [FIRST, SECOND],
            "decide": lambda *_: Decision(
                Payload([FIRST, SECOND]), "carried", "not compared: no EFI"
            ),
        },
        compose: {"compose": lambda *_, **__: root, "attach": lambda *_: None},
        layers: {"State": lambda *_: state, "show_disk": lambda *_: "read-only"},
        stacking: {"places": lambda *_: list(stacking.PLACES)},
        volatile_root: {"device": lambda _: None},
    }
    for where, names in replaced.items():
        for name, value in names.items():
            monkeypatch.setattr(where, name, value)
    return json.loads(to_json(boot.setup(settings, CommandLine([]), "/sysroot")))


@pytest.mark.parametrize("command_line", [None, True, False])
@pytest.mark.parametrize("etc", ["none", "bind", "overlay", "transient"])
def test_a_record(monkeypatch: pytest.MonkeyPatch, etc: str, command_line: bool | None) -> None:
    settings = Config()
    settings.etc = etc
    found = record(monkeypatch, settings, command_line)
    jsonschema.validate(found, SCHEMA)
    # Each key is explained, and none of the explained ones is gone.
    assert {*found, "escaped"} == set(SCHEMA["properties"])


@pytest.mark.parametrize(
    ("measured", "right"),
    [
        ({"pcr": 8, "banks": ["sha256"], "string": "a"}, True),
        ({"nvpcr": {"name": "composefs", "string": "a"}}, True),
        ({"pcr": 8, "banks": [], "fault": "a", "nvpcr": {"name": "a", "fault": "b"}}, True),
        ({}, False),
        ({"pcr": 8}, False),
        ({"banks": []}, False),
        ({"nvpcr": {"name": "composefs"}}, False),
        ({"nvpcr": {"name": "composefs", "string": "a", "fault": "b"}}, False),
        ({"nvpcr": {"name": "9", "string": "a"}}, False),
    ],
)
def test_what_was_measured(monkeypatch: pytest.MonkeyPatch, measured: object, right: bool) -> None:
    found = record(monkeypatch, Config(), None) | {"measured": measured}
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(found) == right


def test_a_root_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its image nor its objects lie on a disk."""
    settings = Config()
    held = object.__new__(embedded.WholeImage)
    held.digest, held.path = SECOND, embedded.PATH
    monkeypatch.setattr(memory_store, "is_there", lambda: True)
    monkeypatch.setattr(
        memory_store, "MemoryStore", lambda _: SimpleNamespace(objects=4, path=memory_store.PATH)
    )
    monkeypatch.setattr(embedded, "take", lambda *_, whole: held if whole else None)
    monkeypatch.setattr(embedded, "free", lambda: None)
    found = record(monkeypatch, settings, None, held)
    jsonschema.validate(found, SCHEMA)
    assert (found["verity"], found["store"]) == ("memory", memory_store.PATH)
    assert found["sysroot"] == "not shown: the root lies in memory"
    assert found["uki"] == "not compared: no EFI"  # as decide() says it, which is not run here


def test_a_name_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(to_json({**record(monkeypatch, Config(), None), "image": "/\udcff"}))
    jsonschema.validate(found, SCHEMA)
    assert (found["image"], found["escaped"]) == ("/\\xff", ["image"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("verity", "off"), ("digest", "sha256:" + "0" * 63), ("level", "unproved"), ("device", 3)],
)
def test_another_record_is_none(monkeypatch: pytest.MonkeyPatch, key: str, value: object) -> None:
    found = record(monkeypatch, Config(), None) | {key: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)
