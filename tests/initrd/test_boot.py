# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The boot flow, as far as it needs no disk: which image is taken, and what comes first."""

import _cfs
import contextlib
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinit.initrd import boot, second_initrd
from pyinit.initrd.handover import pcr
from pyinit.initrd.kernel import mounting, selinux
from pyinit.initrd.machine import rootdisk
from pyinit.initrd.report.errors import CfsError, Refused
from pyinit.initrd.root import compose, embedded, memory_store
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.image import ImageMissing
from pyinit.initrd.source import cmdline, config, decide, esp, payload
from pyinit.initrd.state import layers, leftovers

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


def test_an_image_in_the_initrd_comes_at_its_place_among_the_candidates(
    measured: list[Digest],
) -> None:
    first, second, third = CANDIDATES
    held: Any = SimpleNamespace(digest=second)
    store: Any = Store({third: None})
    assert boot.choose(store, CANDIDATES, held) == (held, [first])
    assert store.asked == [first]
    measured += [first]
    image, missing = boot.choose(Store({first: None}), CANDIDATES, held)  # type: ignore[arg-type]
    assert (image.digest, missing) == (first, [])


def test_what_is_decided_before_the_disk_is_mounted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The configuration and the sources: no digest, no mount."""
    found: list[str] = []

    def find(spec: str, _search: object, **_named: object) -> str:
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


class Flow:
    """A boot of which each step is written down, and nothing is done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[object] = []
        self.uki = SimpleNamespace(path="/u\n", command_line=None, secure_boot="on")
        self.leftovers: tuple[int, str] | None = None
        self.waits = -1
        named = payload.Payload(CANDIDATES, {"app.x": CANDIDATES[0], "sysext.a": CANDIDATES[1]})
        self.decision = decide.Decision(named, "s", "off")
        self.decision.level = "l"
        self.more: dict[str, tuple[dict[str, object], object]] = {}
        patch.setattr(compose, "check_free", lambda path, _: self.done.append(("free", path)))
        patch.setattr(rootdisk, "find", self._find)
        self.looked: list[tuple[object, ...]] = []
        patch.setattr(esp, "look", self._look)
        patch.setattr(decide, "carried", lambda: None)
        patch.setattr(decide, "decide", lambda *_: self.decision)
        patch.setattr(embedded, "take", lambda _, whole: None)
        patch.setattr(rootdisk, "mount", self._mount)
        patch.setattr(boot, "Stage", self._stage)
        patch.setattr(boot, "build", self._build)
        patch.setattr(compose, "attach", lambda *_: self.done.append("attach"))
        patch.setattr(leftovers, "remove_later", lambda *what: self.done.append(what))

    def _look(self, _modules: object, *how: object) -> SimpleNamespace:
        self.looked.append(how)
        return self.uki

    def _build(self, *_: object, extensions: dict[str, Digest], held: object) -> tuple[object, ...]:
        self.extensions, self.held = extensions, held
        return 5, SimpleNamespace(digest=CANDIDATES[0]), {}, self.more

    def _find(self, spec: str, search: rootdisk.Search, *, discovered: bool) -> str:
        self.done.append(spec)
        self.waits, self.booted, self.discovered = search.seconds, search.booted, discovered
        return "/dev/vda"

    def _mount(
        self, device: str, types: str, flags: str, _search: object, *, writable: bool
    ) -> tuple[int, int]:
        self.done.append((device, types, flags, *(["writable"] if writable else [])))
        return 6, 7

    def _stage(self, *arguments: object) -> object:
        self.done.append(arguments)
        return contextlib.nullcontext(SimpleNamespace(leftovers=self.leftovers))


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Flow:
    return Flow(monkeypatch)


def test_the_steps_where_the_disk_is_ours_to_mount(flow: Flow) -> None:
    flow.leftovers = (3, "old")
    boot.setup(config.Config(), cmdline.parse(b"rootfstype=ext4 rootflags=x"), "/s", root="UUID=1")
    assert flow.done == [
        ("free", "/s"), "UUID=1", ("/dev/vda", "ext4", "x"), ("/s", 6, 7), "attach", (3, "old"),
    ]  # fmt: skip
    flow.done.clear()
    boot.setup(config.Config(), cmdline.parse(b""), "/s", root="UUID=1")
    assert flow.done[2] == ("/dev/vda", "", "")


def test_an_image_in_the_initrd_is_looked_at_before_the_disk_and_freed_at_last(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = SimpleNamespace(digest=CANDIDATES[0])

    def take(candidates: list[Digest], *, whole: bool) -> object:
        flow.done.append("whole" if whole else "take")
        assert candidates == CANDIDATES
        return held

    monkeypatch.setattr(embedded, "take", take)
    monkeypatch.setattr(embedded, "free", lambda: flow.done.append("free"))
    boot.setup(config.Config(), cmdline.parse(b""), "/s", root="UUID=1")
    assert flow.held is held
    assert flow.done[2:] == ["take", ("/dev/vda", "", ""), ("/s", 6, 7), "attach", "free"]
    # With its objects, no disk is looked for, and none is mounted.
    monkeypatch.setattr(memory_store, "is_there", lambda: True)
    flow.done.clear()
    boot.setup(config.Config(), cmdline.parse(b""), "/s", root="UUID=1")
    assert flow.done == [("free", "/s"), "whole", ("/s", -1, 0), "attach", "free"]


@pytest.mark.parametrize(
    ("source", "uki", "looked", "proved"),
    [
        ("carried", "compare", False, False), ("carried", "off", False, False),
        ("carried", "require", True, False), ("uki", "off", True, True),
    ],
)  # fmt: skip
def test_a_root_in_memory_looks_at_no_disk_for_its_uki(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, source: str, uki: str, looked: bool, proved: bool
) -> None:
    """But where the configuration insists."""
    monkeypatch.setattr(memory_store, "is_there", lambda: True)
    settings = config.Config()
    settings.digest_source, settings.uki = source, uki
    boot.setup(settings, cmdline.parse(b""), "/s", root="")
    assert flow.looked.pop()[1:] == (looked, proved)
    assert getattr(flow.uki, "why_not", "") == ("" if looked else "the root needs no disk")


@pytest.mark.parametrize(
    ("key", "mode"),
    [(key, mode) for key in ("etc", "var") for mode in ("bind", "overlay", "transient-disk")],
)
def test_a_root_in_memory_keeps_nothing_on_a_disk(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, key: str, mode: str
) -> None:
    monkeypatch.setattr(memory_store, "is_there", lambda: True)
    settings = config.Config()
    setattr(settings, key, mode)
    with pytest.raises(Refused, match=f"state: /{key}: mount = '{mode}', on a disk, expected tra"):
        boot.setup(settings, cmdline.parse(b""), "/s", root="")
    assert flow.done == [("free", "/s")]


@pytest.mark.parametrize(
    ("line", "seconds"), [(b"", 30), (b"rootwait=40", 40), (b"rootdelay=50", 50)]
)
def test_how_long_the_disk_is_waited_for(flow: Flow, line: bytes, seconds: int) -> None:
    boot.setup(config.Config(), cmdline.parse(line), "/s", root="UUID=1")
    assert flow.waits == seconds


def test_who_says_which_disk_was_booted_from(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root partition is looked for without root= only where the configuration allows it."""
    monkeypatch.setattr(esp, "disk", lambda _, seconds: (f"{seconds} s", ""))
    settings = config.Config()
    boot.setup(settings, cmdline.parse(b""), "/s", root="")
    assert flow.discovered is False
    assert flow.booted() == ("5 s", "")
    assert flow.booted(7) == ("7 s", "")
    settings.root_discover = True
    boot.setup(settings, cmdline.parse(b""), "/s", root="")
    assert flow.discovered is True


def test_how_the_uki_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is proved where it is the source, whatever is said of comparing it; and its name is what
    the record says and what is measured."""
    flow, settings = Flow(monkeypatch), config.Config()
    measured: list[object] = []
    monkeypatch.setattr(pcr, "measure", lambda *what: measured.append(what[2]))
    for source, uki, expected in (
        ("carried", "compare", (True, False)),
        ("carried", "off", (False, False)),
        ("uki", "compare", (True, True)),
        ("uki", "off", (True, True)),
    ):
        settings.digest_source, settings.uki = source, uki
        record = boot.setup(settings, cmdline.parse(b""), "/sysroot")
        assert flow.looked.pop()[1:] == expected
        assert (record["source"], record["level"]) == ("s", "l")
    assert measured == ["s"] * 4


def test_extensions_are_measured_behind_the_root_and_attached_before_it(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees the root sees them. What is attached at last is what starts the next system."""
    monkeypatch.setattr(compose, "attach", lambda *what: flow.done.append(what[:2]))
    monkeypatch.setattr(pcr, "measure", lambda *what: flow.done.append(what[1:]))
    tree = (8, "/run/extensions/a", SimpleNamespace(digest=CANDIDATES[1]))
    flow.more = {"sysext.a": ({"digest": "x"}, tree), "sysext.b": ({"digest": "y"}, None)}
    record = boot.setup(config.Config(), cmdline.parse(b""), "/s")
    assert record["extensions"] == {
        "sysext.a": {"digest": "x", "measured": None}, "sysext.b": {"digest": "y"},
    }  # fmt: skip
    assert flow.extensions == {"sysext.a": CANDIDATES[1]}
    assert record["apps"] == {"x": str(CANDIDATES[0])}
    assert flow.done == [
        ("/s", -1, 0), (CANDIDATES[0], "s"), (CANDIDATES[1], "s", "/run/extensions/a"),
        (8, "/run/extensions/a"), (5, "/s"),
    ]  # fmt: skip


def test_a_second_initrd_comes_in_place_of_the_root(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a disk of its own where the configuration names one: the words of the command line say
    how the root's is mounted. Whoever cannot start it refuses it before the disk is mounted."""
    given: list[object] = []

    def attach(_stage: object, _settings: object, *what: object) -> dict[str, str]:
        given.append(what)
        return {"image": "/i"}

    monkeypatch.setattr(second_initrd, "attach", attach)
    flow.decision.named.others["initrd"] = CANDIDATES[2]
    settings = config.Config()
    line = cmdline.parse(b"rootfstype=ext4 rootflags=x")
    facts = {
        "source": "s", "level": "l", "uki": "off", "secure_boot": "on",
        "command_line": "not looked at",
    }  # fmt: skip
    with pytest.raises(Refused, match="source: s: initrd=, a second initrd, expected none: only"):
        boot.setup(settings, line, "/s", ("dev",), root="UUID=1")
    assert flow.done == [("free", "/s"), "UUID=1"]
    for device, words in (("", ("ext4", "x")), ("LABEL=b", ("", ""))):
        flow.done.clear()
        settings.initrd_device = device
        record = boot.setup(settings, line, "/s", ("dev",), root="UUID=1", can_start=True)
        assert record == {"image": "/i"}
        assert flow.done == [
            ("free", "/s"), device or "UUID=1", ("/dev/vda", *words), ("/s", 6, 7),
        ]  # fmt: skip
    assert given == [(flow.decision, facts, ("dev",))] * 2
    del flow.decision.named.others["initrd"]
    with pytest.raises(Refused, match="no initrd=, and the configuration has initrd-device=LABEL="):
        boot.setup(settings, line, "/s", root="UUID=1", can_start=True)


def test_a_second_initrd_takes_over_what_the_first_decided(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"source": "s", "level": "proved", "uki": "u", "secure_boot": "on", "command_line": "c"}
    monkeypatch.setattr(decide, "taken_over", lambda *_: (flow.decision, facts))
    settings = config.Config()
    settings.digest_source = "first-initrd"
    record = boot.setup(settings, cmdline.parse(b""), "/s")
    assert facts.items() <= record.items()
    assert flow.looked == []


@pytest.mark.parametrize(
    ("line", "writable"), [(b"", False), (b"rw", True), (b"ro rw", True), (b"rw ro", False)]
)
def test_a_disk_that_two_initrds_mount_is_as_the_command_line_says(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, line: bytes, writable: bool
) -> None:
    """The kernel takes no two mounts of it of which one is writable, and systemd goes by that."""
    monkeypatch.setattr(second_initrd, "attach", lambda *_: {})
    monkeypatch.setattr(decide, "taken_over", lambda *_: (flow.decision, {}))
    words, mounted = cmdline.parse(line), ("/dev/vda", "", "", *(["writable"] if writable else []))
    settings = config.Config()
    settings.digest_source = "first-initrd"
    boot.setup(settings, words, "/s", root="UUID=1")
    assert flow.done[2] == mounted
    flow.done.clear()
    flow.decision.named.others["initrd"] = CANDIDATES[2]
    boot.setup(config.Config(), words, "/s", root="UUID=1", can_start=True)
    assert flow.done[2] == mounted
    flow.done.clear()
    del flow.decision.named.others["initrd"]
    boot.setup(config.Config(), words, "/s", root="UUID=1")
    assert flow.done[2] == ("/dev/vda", "", "")


@pytest.mark.parametrize(("root", "where"), [("UUID=1", "UUID=1"), ("", "root=")])
def test_a_disk_that_cannot_be_looked_for_is_named(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, root: str, where: str
) -> None:
    def fail(*_: object, **_named: object) -> str:
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(rootdisk, "find", fail)
    with pytest.raises(CfsError, match=f": store: {where}: "):
        boot.setup(config.Config(), cmdline.parse(b""), "/s", root=root)
    assert flow.done == [("free", "/s")]


@pytest.mark.parametrize(
    ("mode", "attributes", "source"),
    [("sealed", mounting.RDONLY, "composefs:"), ("transient", 0, "transient:composefs="),
     ("transient-ro", mounting.RDONLY, "transient:composefs=")],
)  # fmt: skip
@pytest.mark.parametrize("profile", ["none", "bootc"])
def test_the_root_is_writable_only_where_it_is_transient(
    monkeypatch: pytest.MonkeyPatch, profile: str, mode: str, attributes: int, source: str
) -> None:
    """Its source, on a disk of bootc, is what bootc's unit that labels it looks for."""
    seen: list[object] = []

    def fail(_stage: object, _image: object, _objects: object, given: int, **how: object) -> int:
        seen.append((given, how["source"]))
        raise Refused("overlay", "/", "enough seen")

    image = SimpleNamespace(objects="objects")
    monkeypatch.setattr(boot, "Store", lambda _: image)
    monkeypatch.setattr(boot, "choose", lambda *_: (image, []))
    monkeypatch.setattr(layers, "root_layers", lambda *_: None)
    monkeypatch.setattr(compose, "compose", fail)
    settings = config.Config()
    settings.root, settings.profile = mode, profile
    monkeypatch.setattr(selinux, "is_on", lambda: False)
    stage: Any = SimpleNamespace(target="/s")
    with pytest.raises(Refused, match="enough seen"):
        boot.build(stage, settings, CANDIDATES, ())
    assert seen == [(attributes, source if profile == "bootc" else "composefs:")]


def test_the_steps_where_another_has_mounted_it(
    flow: Flow, capfd: pytest.CaptureFixture[str]
) -> None:
    boot.setup(config.Config(), cmdline.parse(b""), "/s")
    assert flow.done == [("/s", -1, 0), "attach"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("found", "said"), [(True, False), (None, False), (False, True)])
def test_a_uki_without_a_command_line_is_told(
    flow: Flow, capfd: pytest.CaptureFixture[str], found: bool | None, said: bool
) -> None:
    flow.uki.command_line = found
    boot.setup(config.Config(), cmdline.parse(b""), "/s")
    assert capfd.readouterr().err.startswith("warning: /u\\n has no .cmdline") == said
