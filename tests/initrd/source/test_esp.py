# SPDX-License-Identifier: Apache-2.0 OR MIT
"""With directories in place of efivarfs and ESP; a real firmware's are read in tests/vm."""

import _cfs
import errno
import os
from pathlib import Path

import pytest

from pyinit.host.uki import payload_write
from pyinit.initrd.kernel import kexec
from pyinit.initrd.machine import devices
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import efivar, esp
from pyinit.initrd.source.payload import Payload
from tests.initrd.harness import opens

UUID = "11111111-2222-3333-4444-555555555555"
DIGEST = Digest(1, bytes(32))


class Firmware:
    def __init__(self, root: Path) -> None:
        self.variables, self.esp = root / "efivars", root / "esp"
        self.variables.mkdir()
        self.esp.mkdir()
        self.mounts: list[tuple[str, list[tuple[str, str | None]], int]] = []
        self.errors: dict[str, int] = {}
        self.sections: dict[int, bytes | int] = {_cfs.PE_BASE: payload_write.write([DIGEST])}
        self.command_lines: dict[int, bytes | int] = {_cfs.PE_BASE: b"quiet"}
        self.set("StubDevicePartUUID", UUID)
        self.set("StubImageIdentifier", "\\EFI\\Linux\\a.efi")
        self.raw("SecureBoot", b"\6\0\0\0\1", efivar.GLOBAL)
        self.file = self.esp / "EFI/Linux/a.efi"
        self.file.parent.mkdir(parents=True)
        self.file.write_bytes(b"uki")

    def raw(self, name: str, data: bytes, vendor: str = efivar.LOADER) -> None:
        (self.variables / f"{name}-{vendor}").write_bytes(data)

    def set(self, name: str, text: str) -> None:
        self.raw(name, b"\6\0\0\0" + text.encode("utf-16-le") + b"\0\0")

    def mount(self, kind: str, options: list[tuple[str, str | None]], attributes: int) -> int:
        self.mounts.append((kind, options, attributes))
        if kind in self.errors:
            raise OSError(self.errors[kind], os.strerror(self.errors[kind]))
        return os.open(self.variables if kind == "efivarfs" else self.esp, os.O_RDONLY)

    def section(self, fd: int, name: str, profile: int, capacity: int) -> bytes:
        assert capacity == (4096 if name == ".cmdline" else 16384)
        assert os.read(fd, 9) == b"uki"
        os.lseek(fd, 0, 0)
        sections = {".cfsdig": self.sections, ".cmdline": self.command_lines}[name]
        found = sections.get(profile, errno.ENOENT)
        if isinstance(found, int):
            raise OSError(found, "the rule")
        return found


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Firmware:
    made = Firmware(tmp_path)
    monkeypatch.setattr(esp, "FIRMWARE", str(tmp_path))
    monkeypatch.setattr(kexec, "reason", lambda: "")
    monkeypatch.setattr("_cfs.fs_mount", made.mount)
    monkeypatch.setattr("_cfs.pe_section_read", made.section)
    monkeypatch.setattr(
        devices, "find_partition", lambda uuid, seconds, each: f"/dev/{uuid[:4]}-{seconds}"
    )
    return made


def look(uki: bool = True) -> esp.UkiDigests:
    before = os.listdir("/proc/self/fd")
    try:
        return esp.look(None, 7, uki)
    finally:
        assert os.listdir("/proc/self/fd") == before


def why_not() -> str:
    result = look()
    assert result.found is None
    return result.why_not


def test_the_file_of_this_boot(firmware: Firmware) -> None:
    result = look()
    assert result.found == Payload([DIGEST])
    assert result.why_not == ""
    assert result.path == "/dev/1111-7:/EFI/Linux/a.efi"
    assert result.secure_boot == "on"
    assert [(kind, attributes) for kind, _, attributes in firmware.mounts] == [
        ("efivarfs", 0xF),
        ("vfat", 0xF),
    ]
    assert ("ro", None) in firmware.mounts[1][1]
    assert ("source", "/dev/1111-7") in firmware.mounts[1][1]


def test_the_file_is_opened_as_little_as_can_be(firmware: Firmware) -> None:
    with opens() as seen:
        look()
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    assert [seen[name] for name in ("EFI", "Linux")] == [flags | os.O_DIRECTORY] * 2
    assert seen["a.efi"] == flags


class Drivers:
    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, name: str) -> None:
        self.loaded.append(name)
        raise Refused("store", name, "no such module")

    def coldplug(self) -> None:
        pass


def test_drivers_are_loaded_where_the_kernel_does_not(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers, asked = Drivers(), []

    def find_partition(_uuid: str, _seconds: int, each: object) -> str:
        asked.append(each)
        return "/dev/vda1"

    monkeypatch.setattr(devices, "find_partition", find_partition)
    assert esp.look(drivers, 7).found == Payload([DIGEST])  # type: ignore[arg-type]
    assert drivers.loaded == list(esp.MODULES)
    assert asked == [drivers.coldplug]
    firmware.errors["vfat"] = errno.ENODEV
    found = esp.look(drivers, 7).why_not  # type: ignore[arg-type]
    assert found.endswith("(ENODEV); vfat: no such module; nls_cp437: no such module; "
                          "nls_ascii: no such module")  # fmt: skip


def test_off_reads_nothing_but_secure_boot(firmware: Firmware) -> None:
    result = look(uki=False)
    assert (result.found, result.why_not) == (None, "not asked for")
    assert result.secure_boot == "on"
    assert [kind for kind, _, _ in firmware.mounts] == ["efivarfs"]


def test_secure_boot(firmware: Firmware) -> None:
    for data, state in ((b"\6\0\0\0\0", "off"), (b"\6\0\0\0\2", "unknown"), (b"", "unknown")):
        firmware.raw("SecureBoot", data, efivar.GLOBAL)
        assert look().secure_boot == state


def test_the_profile_then_the_base(firmware: Firmware) -> None:
    other = Digest(1, b"\1" * 32)
    firmware.set("StubProfile", "2")
    assert look().found == Payload([DIGEST])
    firmware.sections[2] = payload_write.write([other])
    assert look().found == Payload([other])
    firmware.sections[2] = errno.EEXIST
    with pytest.raises(Refused):  # what is wrong in the profile is not looked for in the base
        look()


def test_a_command_line_of_the_file(firmware: Firmware) -> None:
    """Without one who starts the UKI says what PID 1 is."""
    lines = firmware.command_lines
    found = look()
    assert found.command_line is True
    assert found.line is not None
    assert found.line.parameters == [("quiet", None)]
    lines[_cfs.PE_BASE] = errno.EMSGSIZE
    assert (look().command_line, look().line) == (True, None)
    lines.clear()
    assert (look().command_line, look().line) == (False, None)
    firmware.set("StubProfile", "1")
    assert look().command_line is False
    lines[1] = b"a=b\0"
    lines[_cfs.PE_BASE] = b"of the base"
    found = look()
    assert found.command_line is True
    assert found.line is not None
    assert found.line.parameters == [("a", "b")]
    lines.clear()
    lines[_cfs.PE_BASE] = b"of the base"
    assert look().command_line is True
    lines[1] = errno.EEXIST
    with pytest.raises(Refused, match=r"a.efi: .cmdline: .*EEXIST"):
        look()
    firmware.sections.clear()
    lines.clear()
    assert look().command_line is False
    firmware.file.unlink()
    assert look().command_line is None
    assert look(uki=False).command_line is None


@pytest.mark.parametrize("text", ["", "-1", "1 ", "512", "0x1", "²", "1000", "0002"])
def test_other_profiles_are_no_profile(firmware: Firmware, text: str) -> None:
    firmware.set("StubProfile", text)
    assert "StubProfile is" in why_not()


def test_reasons_for_not_finding_it(
    firmware: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    firmware.sections.clear()
    assert why_not() == "/dev/1111-7:/EFI/Linux/a.efi has no section .cfsdig"
    firmware.file.unlink()
    assert "/dev/1111-7:/EFI/Linux/a.efi: No such file or directory (ENOENT)" in why_not()
    firmware.errors["vfat"] = errno.EINVAL
    assert "ESP /dev/1111-7 not mountable: Invalid argument (EINVAL)" in why_not()
    for name in ("StubImageIdentifier", "StubDevicePartUUID"):
        firmware.raw(name, b"\7\0\0\0a\0\0\0")
        assert f"{name}: attributes 0x7, not 0x6" in why_not()
        (firmware.variables / f"{name}-{efivar.LOADER}").unlink()
        assert f"no EFI variable {name}" in why_not()
    firmware.errors["efivarfs"] = errno.ENODEV
    assert "EFI variables not mountable: No such device (ENODEV)" in why_not()
    monkeypatch.setattr(esp, "FIRMWARE", str(tmp_path / "none"))
    assert why_not() == "not booted by EFI"
    place = str(tmp_path / "file" / "x")
    (tmp_path / "file").touch()
    monkeypatch.setattr(esp, "FIRMWARE", place)
    assert why_not() == f"{place}: Not a directory (ENOTDIR)"


@pytest.mark.parametrize("name", ["StubProfile", "StubDevicePartUUID"])
def test_a_variable_that_cannot_be_read(firmware: Firmware, name: str) -> None:
    path = firmware.variables / f"{name}-{efivar.LOADER}"
    path.unlink(missing_ok=True)
    path.mkdir()
    assert why_not() == f"EFI variable {name}: Is a directory (EISDIR)"


def test_the_partition_does_not_appear(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(uuid: str, seconds: int, each: object) -> str:
        raise Refused("store", f"PARTUUID={uuid}", "not found after 7 s")

    monkeypatch.setattr(devices, "find_partition", absent)
    assert why_not() == f"ESP PARTUUID={UUID}: not found after 7 s"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.EBADMSG, "the rule (EBADMSG)"),
        (errno.EEXIST, "EEXIST"),
        (errno.EMSGSIZE, "EMSGSIZE"),
        (errno.EIO, "EIO"),
        (errno.EINVAL, "EINVAL"),
        (b"", ".cfsdig: it is empty"),
        (b"cfsdig2\n", ".cfsdig: the first line"),
    ],
)
def test_a_broken_file_is_refused(firmware: Firmware, error: int | bytes, words: str) -> None:
    firmware.sections[_cfs.PE_BASE] = error
    with pytest.raises(Refused) as caught:
        look()
    assert caught.value.step == "source"
    assert "/dev/1111-7:/EFI/Linux/a.efi" in caught.value.path
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "\\", "\\\\a", "\\a\\..\\b", "..\\a", "\\a\\", "\\a/b", "/a", "\\.", "\\a\\.\\b"],
)
def test_paths_that_climb_or_are_none(firmware: Firmware, text: str) -> None:
    firmware.set("StubImageIdentifier", text)
    assert "not a path below the ESP" in why_not()


def test_links_are_not_followed(firmware: Firmware) -> None:
    firmware.file.rename(firmware.esp / "b.efi")
    firmware.file.symlink_to(firmware.esp / "b.efi")
    assert "a.efi: Too many levels of symbolic links (ELOOP)" in why_not()
    (firmware.esp / "link").symlink_to(firmware.esp)
    firmware.set("StubImageIdentifier", "\\link\\b.efi")
    assert "/link: " in why_not()
    firmware.set("StubImageIdentifier", "b.efi")
    assert look().found == Payload([DIGEST])


def test_a_directory_or_fifo_is_no_uki(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for make in (os.mkdir, os.mkfifo):
        path = firmware.esp / make.__name__
        make(path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with pytest.raises(Refused, match="EINVAL"):
                esp.read(fd, _cfs.PE_BASE, "x")
        finally:
            os.close(fd)


def test_the_disk_of_the_esp(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub's word, else the boot loader's; nothing where neither leads to one partition."""
    monkeypatch.setattr(devices, "disk_of", lambda name: f"disk of {name}")
    assert esp.disk(None, 3) == (f"disk of {UUID[:4]}-3", "")
    (firmware.variables / f"StubDevicePartUUID-{efivar.LOADER}").unlink()
    none = "no EFI variable LoaderDevicePartUUID: systemd-stub sets it since 257"
    assert esp.disk(None, 3) == ("", none)
    firmware.set("LoaderDevicePartUUID", "9999")
    assert esp.disk(None, 3) == ("disk of 9999-3", "")
    firmware.errors["efivarfs"] = errno.ENODEV
    assert esp.disk(None, 3) == ("", "EFI variables not mountable: No such device (ENODEV)")


def test_a_disk_that_goes_away_is_none(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_name: str) -> str:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(devices, "disk_of", gone)
    assert esp.disk(None, 3) == ("", "No such file or directory (ENOENT)")
    assert firmware.mounts


def test_two_esps_of_one_uuid_are_no_disk(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*_: object) -> str:
        raise Refused("store", "PARTUUID=1", "on /dev/vda1 and /dev/vdb1", "one partition")

    monkeypatch.setattr(devices, "find_partition", twice)
    assert esp.disk(None, 3) == ("", "ESP PARTUUID=1: on /dev/vda1 and /dev/vdb1")
    assert firmware.mounts


def test_what_an_earlier_boot_left_is_not_read(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its UKI, its disk, and whether Secure Boot has checked it: this kernel is another."""
    monkeypatch.setattr(kexec, "reason", lambda: "started by kexec")
    why = "started by kexec; the EFI variables are of the boot before"
    result = look()
    assert (result.found, result.why_not) == (None, why)
    assert (result.path, result.secure_boot, result.command_line) == ("", "unknown", None)
    assert result.line is None
    assert look(uki=False).secure_boot == "unknown"
    assert esp.disk(None, 3) == ("", why)
    assert firmware.mounts == []


# ---- proof


@pytest.fixture
def proving(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What was asked for: profile and path; the file is the UKI, the directory that of the log."""
    asked = []

    def prove(fd: int, profile: int, where: str, security: int) -> Payload:
        assert os.read(fd, 3) == b"uki"
        os.lseek(fd, 0, 0)
        assert os.fstat(security).st_ino == firmware.esp.stat().st_ino
        asked.append((profile, where))
        return Payload([DIGEST])

    monkeypatch.setattr("pyinit.initrd.source.proof.prove", prove)
    return asked


def test_a_proved_file(firmware: Firmware, proving: list[tuple[int, str]]) -> None:
    firmware.sections = {}  # is not read in another way
    firmware.set("StubProfile", "2")
    before = os.listdir("/proc/self/fd")
    result = esp.look(None, 7, prove=True)
    assert os.listdir("/proc/self/fd") == before
    assert (result.found, result.proved, result.why_not) == (Payload([DIGEST]), True, "")
    assert proving == [(2, "/dev/1111-7:/EFI/Linux/a.efi")]
    assert [(kind, attributes) for kind, _, attributes in firmware.mounts] == [
        ("efivarfs", 0xF), ("vfat", 0xF), ("securityfs", 0xF),
    ]  # fmt: skip


def test_nothing_is_proved_where_nobody_asks(
    firmware: Firmware, proving: list[tuple[int, str]]
) -> None:
    result = look()
    assert (result.found, result.proved, proving) == (Payload([DIGEST]), False, [])
    assert "securityfs" not in [kind for kind, _, _ in firmware.mounts]


def test_what_cannot_be_proved(
    firmware: Firmware, proving: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file, no log, and a kernel that another one has started."""
    firmware.errors["securityfs"] = errno.ENODEV
    result = esp.look(None, 7, prove=True)
    assert result.why_not == "securityfs not mountable: No such device (ENODEV)"
    firmware.errors = {"vfat": errno.ENODEV}
    assert "ESP /dev/1111-7 not mountable" in esp.look(None, 7, prove=True).why_not
    monkeypatch.setattr(kexec, "reason", lambda: "this kernel was started by kexec")
    result = esp.look(None, 7, prove=True)
    assert "this kernel was started by kexec; the EFI variables" in result.why_not
    assert (result.found, result.proved, proving) == (None, False, [])
