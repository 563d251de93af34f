# SPDX-License-Identifier: Apache-2.0 OR MIT
import itertools
import os
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write
from pyinit.initrd.report.errors import Refused, SystemFailure
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import cmdline, handed_over, payload
from pyinit.initrd.source import decide as sources
from pyinit.initrd.source.config import Config
from pyinit.initrd.source.decide import Decision
from pyinit.initrd.source.esp import UkiDigests
from pyinit.initrd.source.payload import Payload

A, B, C = Digest(1, b"\xa1" * 32), Digest(2, b"\xb2" * 64), Digest(1, b"\xc3" * 32)
LINES = {
    "none": ("quiet root=/dev/vda", None),
    "A": (f"quiet composefs={A.hex}", A),
    "A long": (f"composefs.digest=v1-sha256-12:{A.hex} quiet", A),
    "A twice": (f"composefs={A.hex} composefs.digest=v2-sha256-12:{A.hex}", A),
    "B": (f"composefs={B.hex}", B),
    "A for init": (f"quiet -- composefs={A.hex}", None),
    "C after A": (f"composefs={A.hex} composefs={C.hex}", Refused),
    "insecure": (f"composefs=?{A.hex}", Refused),
    "insecure long": (f"composefs.digest=?v1-sha256-12:{A.hex}", Refused),
    "empty": ("composefs=", Refused),
    "no value": ("composefs", None),
    "malformed": (f"composefs={A.hex[:-1]}", Refused),
}
HELD: list[list[Digest] | None] = [None, [A], [B], [A, B], [B, A]]
FOUND: list[list[Digest] | None] = [None, [A], [B], [A, B]]


def config(uki: str = "compare", source: str = "carried") -> Config:
    result = Config()
    result.uki, result.digest_source = uki, source
    return result


def named(roots: list[Digest] | None, **extensions: Digest) -> Payload | None:
    """`sysext_a` stands for `sysext.a`."""
    more = {key.replace("_", "."): digest for key, digest in extensions.items()}
    return None if roots is None else Payload(roots, more)


def uki_with(found: list[Digest] | None, **extensions: Digest) -> UkiDigests:
    result = UkiDigests()
    result.found = named(found, **extensions)
    result.path = "" if found is None else "/dev/vda1:/EFI/Linux/a.efi"
    result.why_not = "no such partition" if found is None else ""
    return result


def decide(
    settings: Config, held: list[Digest] | None, found: list[Digest] | None, line: str
) -> Decision:
    return sources.decide(settings, named(held), uki_with(found), cmdline.parse(line.encode()))


def refusal(
    settings: Config, held: list[Digest] | None, found: list[Digest] | None, line: str
) -> str:
    with pytest.raises(Refused) as caught:
        decide(settings, held, found, line)
    assert caught.value.step == "source"
    return str(caught.value)


@pytest.mark.parametrize("uki", ["off", "compare", "require"])
@pytest.mark.parametrize("source", ["carried", "cmdline", "any"])
def test_all_combinations(uki: str, source: str) -> None:
    for held, found, (line, named) in itertools.product(HELD, FOUND, LINES.values()):
        told = [named] if isinstance(named, Digest) else None
        base = None if source == "cmdline" else held
        if held is None and source != "carried":
            base = told
        boots = (
            base is not None
            and named is not Refused
            and (told is None or told == base)
            and (uki == "off" or (found is None and uki == "compare") or found == base)
        )
        case = (held, found, line)
        if boots:
            decision = decide(config(uki, source), held, found, line)
            assert decision.candidates == base, case
            assert decision.level == ("cmdline" if held is None else "carried"), case
            assert decision.source == decision.level, case
            # what was not compared is never called equal
            assert ("equal" in decision.uki) == (uki != "off" and found is not None), case
        else:
            refusal(config(uki, source), held, found, line)


def test_the_uki_never_decides() -> None:
    # Its file is only what a variable says was booted.
    for source in ("carried", "cmdline", "any"):
        assert "rootfs.digest" in refusal(config("compare", source), None, [A], "quiet")


def test_the_order_of_candidates_is_compared_too() -> None:
    assert decide(config(), [A, B], [A, B], "").candidates == [A, B]
    assert f"{B} {A}, expected {A} {B}" in refusal(config(), [A, B], [B, A], "")


ORDER = f"composefs={C.hex} composefs.digest=v1-sha512-12:{B.hex} composefs={A.hex}"


def bootc(line: str, own: str | None, held: list[Digest] | None = None) -> list[Digest]:
    """The candidates on a disk of bootc, by a UKI that could be read and has `own`."""
    settings = config(source="any")
    settings.profile = "bootc"
    uki = uki_with(None)
    uki.path = "/dev/vda1:/a.efi"
    uki.line = None if own is None else cmdline.parse(own.encode())
    return sources.decide(settings, named(held), uki, cmdline.parse(line.encode())).candidates


def test_several_that_the_uki_itself_has_are_candidates_in_its_order() -> None:
    assert bootc(ORDER, "quiet " + ORDER) == [C, B, A]
    assert bootc(f"{ORDER} composefs={B.hex} more", ORDER) == [C, B, A]
    assert bootc(ORDER, ORDER, [C, B, A]) == [C, B, A]
    with pytest.raises(Refused, match=f"{C} {B} {A}, expected {A}"):
        bootc(ORDER, ORDER, [A])


@pytest.mark.parametrize(
    ("line", "own", "said"),
    [
        (f"{ORDER} composefs={A.hex}", f"composefs={C.hex}", f"{C} {B} {A}, expected {C}, as /dev"),
        (f"composefs={A.hex}", "quiet", f"{A}, expected no digest, as /dev/vda1:/a.efi has it"),
        ("quiet", f"composefs={A.hex}", f"no digest, expected {A}, as /dev/vda1:/a.efi has it"),
        (f"composefs={B.hex} composefs={A.hex}", f"composefs={A.hex} composefs={B.hex}", "expect"),
        (f"composefs={A.hex}", f"composefs={C.hex}", f"{A}, expected {C}, as"),
        (f"composefs={A.hex}", f"composefs={A.hex} composefs={B.hex}", f"{A}, expected {A} {B}"),
    ],
)
def test_what_an_add_on_appends_is_no_candidate(line: str, own: str, said: str) -> None:
    """Who removes the first image would choose the next."""
    with pytest.raises(Refused) as caught:
        bootc(line, own)
    assert str(caught.value).startswith("refused: source: kernel command line: ")
    assert said in str(caught.value)


def test_where_the_uki_cannot_be_read_all_must_agree() -> None:
    assert bootc(f"composefs={A.hex} composefs={A.hex}", None) == [A]
    with pytest.raises(Refused, match=f"two digests, {C} and {B}"):
        bootc(ORDER, None)


def test_without_the_profile_several_are_never_candidates() -> None:
    uki = uki_with(None)
    uki.line = cmdline.parse(ORDER.encode())
    with pytest.raises(Refused, match="two digests"):
        sources.decide(config(source="cmdline"), None, uki, uki.line)


def test_what_is_said() -> None:
    line = LINES["A"][0]
    assert decide(config("off"), [A], None, "").uki == "not read (configuration)"
    assert decide(config(), [A], None, "").uki == "not compared: no such partition"
    assert decide(config(), [A], [A], line).uki == "unproved, equal: /dev/vda1:/EFI/Linux/a.efi"
    missing = (
        f"refused: source: {payload.CARRIED}: not in this initrd, "
        "expected the file that cfs-uki seal adds to the UKI's initrd"
    )
    assert refusal(config(), None, None, "quiet") == missing
    assert refusal(config(), None, None, line) == (
        f"{missing}; or digest-source=cmdline in its configuration"
    )
    assert "no composefs= or composefs.digest=" in refusal(
        config(source="cmdline"), None, None, "quiet"
    )
    assert refusal(config(source="cmdline"), [A], None, line) == (
        f"refused: source: {payload.CARRIED}: a digest, expected none in this initrd "
        "(digest-source=cmdline in its configuration)"
    )
    assert refusal(config(), [B], None, line) == (
        f"refused: source: kernel command line: {A}, expected {B}"
    )
    assert refusal(config(), [B], [A], "") == (
        f"refused: source: /dev/vda1:/EFI/Linux/a.efi: {A}, expected {B}"
    )
    assert refusal(config("require"), [A], None, "") == (
        "refused: source: UKI: no such partition, expected its section to compare"
    )
    unread = uki_with(None)
    unread.path = "/dev/vda1:/a.efi"
    with pytest.raises(Refused, match=r"source: /dev/vda1:/a.efi: no such partition, expected its"):
        sources.decide(config("require"), named([A]), unread, cmdline.parse(b""))
    assert "verification off" in refusal(config(), [A], None, LINES["insecure"][0])


def test_carried_missing_empty_and_wrong_differ(tmp_path: Path) -> None:
    path = tmp_path / "rootfs.digest"
    assert sources.carried(str(path)) is None
    assert sources.carried(str(tmp_path / "no" / "directory")) is None
    path.write_bytes(b"")
    with pytest.raises(Refused, match="it is empty"):
        sources.carried(str(path))
    path.write_bytes(b"cfsdig1\n")
    with pytest.raises(Refused, match="0 digests"):
        sources.carried(str(path))
    path.write_bytes(payload_write.write([A, B]))
    assert sources.carried(str(path)) == named([A, B])
    path.write_bytes(payload_write.write([A]).ljust(payload.MAX, b"\0"))
    assert sources.carried(str(path)) == named([A])
    path.write_bytes(payload_write.write([A]).ljust(payload.MAX + 1, b"\0"))
    with pytest.raises(Refused, match="more than 16384 bytes"):
        sources.carried(str(path))


def test_carried_that_cannot_be_read_is_not_missing(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="EISDIR"):
        sources.carried(str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SystemFailure, match="ENOTDIR"):
        sources.carried(str(tmp_path / "file" / "rootfs.digest"))
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(SystemFailure, match="ELOOP"):
        sources.carried(str(tmp_path / "loop"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Refused, match="empty"):  # and no hang
        sources.carried(str(tmp_path / "fifo"))


# ---- extensions


def test_extensions_come_from_what_names_the_root() -> None:
    line = cmdline.parse(f"composefs={A.hex}".encode())
    held = named([A], confext_x=B, sysext_a=C)
    for uki in (uki_with(None), uki_with([A], confext_x=B, sysext_a=C)):
        decision = sources.decide(config(), held, uki, line)
        assert decision.extensions == {"confext.x": B, "sysext.a": C}
    decision = sources.decide(config("compare", "any"), None, uki_with([A]), line)
    assert (decision.source, decision.extensions) == ("cmdline", {})
    uki = uki_with([A], sysext_a=C)
    uki.proved = True
    decision = sources.decide(config("off", "uki"), None, uki, line)
    assert decision.extensions == {"sysext.a": C}


def test_apps_are_apart_and_compared_all_the_same() -> None:
    held = named([A], app_x=B, sysext_a=C)
    line = cmdline.parse(b"quiet")
    decision = sources.decide(config(), held, uki_with([A], app_x=B, sysext_a=C), line)
    assert (decision.extensions, decision.apps) == ({"sysext.a": C}, {"x": B})
    with pytest.raises(Refused, match=r"app\.x="):
        sources.decide(config(), held, uki_with([A], app_x=C, sysext_a=C), line)


def test_copies_that_name_other_extensions_disagree() -> None:
    """Else whoever writes the ESP could show a UKI that says less than what boots."""
    line = cmdline.parse(b"quiet")
    for found in ({}, {"sysext_a": B}, {"sysext_b": C}, {"sysext_a": C, "sysext_b": C}):
        with pytest.raises(Refused, match=rf"a\.efi: {A}.*, expected {A} sysext\.a={C}"):
            sources.decide(config(), named([A], sysext_a=C), uki_with([A], **found), line)
    # The command line cannot name any.
    with pytest.raises(Refused, match=rf"a\.efi: {A} sysext\.a={C}, expected {A}"):
        sources.decide(
            config("compare", "any"), None, uki_with([A], sysext_a=C),
            cmdline.parse(f"composefs={A.hex}".encode()),
        )  # fmt: skip


# ---- the section that the TPM proves


def proved(found: list[Digest], why_not: str = "") -> UkiDigests:
    uki = uki_with(found)
    uki.proved, uki.why_not, uki.path = not why_not, why_not, "/dev/vda1:/a.efi"
    return uki


def by_uki(uki: UkiDigests, held: list[Digest] | None = None, line: str = "quiet") -> Decision:
    return sources.decide(config("off", "uki"), named(held), uki, cmdline.parse(line.encode()))


def test_a_proved_section_decides() -> None:
    for held in (None, [A, B]):
        decision = by_uki(proved([A, B]), held)
        assert (decision.source, decision.level) == ("uki", "proved")
        assert decision.candidates == [A, B]
        assert decision.uki == "proved: /dev/vda1:/a.efi"
    assert by_uki(proved([A]), None, f"composefs={A.hex}").candidates == [A]


def test_every_other_source_agrees_with_it() -> None:
    with pytest.raises(Refused, match=rf"rootfs\.digest: {B}, expected {A}"):
        by_uki(proved([A]), [B])
    with pytest.raises(Refused, match=f"kernel command line: {B}, expected {A}"):
        by_uki(proved([A]), None, f"composefs={B.hex}")


def test_nothing_takes_its_place() -> None:
    """Neither the carried file nor the command line, nor what was only found."""
    for uki in (proved([A], "no EFI variable"), UkiDigests()):
        with pytest.raises(Refused, match=r"not proved: .*, expected the UKI that was booted"):
            by_uki(uki, [A], f"composefs={A.hex}")
    assert decide(config("compare", "carried"), [A], [A], "").level == "carried"
    unproved = proved([A])
    unproved.proved = False
    with pytest.raises(Refused, match="not proved"):
        by_uki(unproved)


# ---- a second initrd

FACTS = {
    "source": "uki", "level": "proved", "uki": "proved: a.efi", "secure_boot": "on",
    "command_line": "not looked at",
}  # fmt: skip


def _take_over(
    monkeypatch: pytest.MonkeyPatch, held: Payload | None = None, line: bytes = b""
) -> tuple[Decision, dict[str, str]]:
    monkeypatch.setattr(handed_over, "load", lambda: (FACTS, Payload([A, B], {"sysext.a": C})))
    return sources.taken_over(held, cmdline.parse(line))


def test_what_the_first_initrd_decided_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    decision, facts = _take_over(monkeypatch)
    assert (decision.candidates, decision.extensions, facts) == ([A, B], {"sysext.a": C}, FACTS)
    assert (decision.source, decision.level, decision.uki) == ("uki", "proved", "proved: a.efi")


def test_what_else_names_a_root_there_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"composefs={A.hex} composefs={B.hex}".encode()
    same = Payload([A, B], {"sysext.a": C})
    assert _take_over(monkeypatch, same, line)[0].candidates == [A, B]
    for held in (Payload([A, B]), Payload([A], {"sysext.a": C})):
        with pytest.raises(Refused, match=f"source: {payload.CARRIED}"):
            _take_over(monkeypatch, held)
    for other in (A, C):
        with pytest.raises(Refused, match="source: kernel command line"):
            _take_over(monkeypatch, None, f"composefs={other.hex}".encode())


def test_who_has_been_handed_something_is_told_how_to_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for there, end in ((True, "; or digest-source=first-initrd in its configuration"), (False, "")):
        monkeypatch.setattr(handed_over, "is_there", lambda there=there: there)
        with pytest.raises(Refused) as caught:
            decide(config(), None, None, "")
        assert str(caught.value).endswith("that cfs-uki seal adds to the UKI's initrd" + end)
