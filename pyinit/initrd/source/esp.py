# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The UKI file that firmware and stub say was booted, and the digests in its section.

systemd-stub leaves the partition (StubDevicePartUUID), the path (StubImageIdentifier) and the
profile (StubProfile) in EFI variables. All of it is a hint, and the file may have been replaced
since: what is found here is `unproved`, good for comparing and never for a boot, unless the TPM
proves it (proof.py). So not to find a file is a reason to be told; a file that is there and is
broken is refused.

Where another kernel has started this one (kexec, kdump), all of it, Secure Boot too, is about the
boot before, and nothing of it is read.
"""

import _cfs
import errno
import posix

from pyinit.initrd.kernel import files, kexec, mounting
from pyinit.initrd.machine import devices
from pyinit.initrd.report.errors import Refused, os_error
from pyinit.initrd.source import cmdline, efivar, payload, proof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyinit.initrd.machine.modules import Modules
    from pyinit.initrd.source.cmdline import CommandLine
    from pyinit.initrd.source.payload import Payload

FIRMWARE = "/sys/firmware/efi"
MODULES = ("efivarfs", "vfat", "nls_cp437", "nls_ascii")
"""What an initrd without modprobe should have, where the kernel has them as modules."""

PROFILES_MAX = 512  # a profile is a section, and a UKI has no more of these

_COMMAND_LINE = ".cmdline"
_COMMAND_LINE_MAX = 4096  # no kernel here takes more

_ATTRIBUTES = mounting.RDONLY | mounting.NOSUID | mounting.NODEV | mounting.NOEXEC
# FAT names and their character sets are said, since their defaults are kernel configuration.
_VFAT = [("ro", None), ("codepage", "437"), ("iocharset", "ascii")]


class UkiDigests:
    """What was found: `found` is None where there was nothing to compare, `why_not` says why.

    `proved`: by the TPM, and so good for a boot.
    `path`: `DEVICE:PATH` of the file, as far as known. `secure_boot`: on, off or unknown.
    `command_line`: has the file one of its own? None: no file was looked into. `line`: that one.
    """

    __slots__ = ("command_line", "found", "line", "path", "proved", "secure_boot", "why_not")

    def __init__(self) -> None:
        self.found: Payload | None = None
        self.proved = False
        self.why_not = ""
        self.path = ""
        self.secure_boot = "unknown"
        self.command_line: bool | None = None
        self.line: CommandLine | None = None


class _Absent(Exception):
    """The file cannot be named or reached; the text says why."""


def look(
    modules: "Modules | None", seconds: int, uki: bool = True, prove: bool = False
) -> UkiDigests:
    """The state of Secure Boot and, with `uki`, the digests of the UKI that was booted; `prove`:
    no others than those that the TPM proves.

    `modules`: to load drivers with; None where the kernel's own modprobe works. `seconds`: how
    long to wait for the partition. Refused("source", …): the file is there, and it is broken, or
    not proved.
    """
    result = UkiDigests()
    try:
        variables = _mount_variables(modules)
        try:
            result.secure_boot = _secure_boot(variables)
            if not uki:
                raise _Absent("not asked for")
            uuid = _text(variables, "StubDevicePartUUID")
            names = components(_text(variables, "StubImageIdentifier"))
            profile = _profile(variables)
        finally:
            posix.close(variables)
        result.path = "/" + "/".join(names)
        device = _partition(uuid, seconds, modules)
        result.path = f"{device}:{result.path}"
        fd = _open(device, names, modules)
        try:
            if prove:
                security = _mount("securityfs", [], (), modules, "securityfs")
                try:
                    result.found = proof.prove(fd, profile, result.path, security)
                finally:
                    posix.close(security)
                result.proved = True
            else:
                result.found = read(fd, profile, result.path)
            result.command_line, result.line = command_line(fd, profile, result.path)
        finally:
            posix.close(fd)
        if result.found is None:
            result.why_not = f"{result.path} has no section {payload.SECTION}"
    except _Absent as error:
        result.why_not = str(error)
    return result


def disk(modules: "Modules | None", seconds: int) -> tuple[str, str]:
    """The name in sysfs of the disk with the partition that the UKI was started from, as stub or
    boot loader say; or empty, and why it is not known: neither does, or no partition, or more than
    one, has that UUID."""
    try:
        variables = _mount_variables(modules)
        try:
            try:
                uuid = _text(variables, "StubDevicePartUUID")
            except _Absent:
                uuid = _text(variables, "LoaderDevicePartUUID")  # stubs before 257
        finally:
            posix.close(variables)
        return devices.disk_of(_partition(uuid, seconds, modules).rpartition("/")[2]), ""
    except _Absent as error:
        return "", str(error)
    except OSError as error:
        return "", os_error(error)


def components(identifier: str) -> list[str]:
    r"""Of `\\EFI\\BOOT\\BOOTX64.EFI`: names below the partition's root, none of which climbs."""
    names = identifier.removeprefix("\\").split("\\")
    if any(name in ("", ".", "..") or "/" in name for name in names):
        raise _Absent(f"StubImageIdentifier is {identifier}: not a path below the ESP")
    return names


def read(fd: int, profile: int, where: str) -> "Payload | None":
    """The section of a UKI for this profile, else of its base; None where neither has it.

    Refused("source", where, …): no UKI that could be read, or a section that is not as it must be.
    """
    for number in (profile, _cfs.PE_BASE):
        try:
            data = _cfs.pe_section_read(fd, payload.SECTION, number, payload.MAX)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise Refused("source", where, os_error(error)) from None
        else:
            return payload.parse(data, f"{where}: {payload.SECTION}")
    return None


def command_line(fd: int, profile: int, where: str) -> "tuple[bool, CommandLine | None]":
    """Has the file a command line, which is signed where the file is? That of the profile or of its
    base; None where it is longer than any kernel takes. Refused("source", where, …), as read()."""
    for number in (profile, _cfs.PE_BASE):
        try:
            data = _cfs.pe_section_read(fd, _COMMAND_LINE, number, _COMMAND_LINE_MAX)
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue
            if error.errno != errno.EMSGSIZE:
                raise Refused("source", where, f"{_COMMAND_LINE}: {os_error(error)}") from None
            return True, None
        return True, cmdline.parse(data)
    return False, None


def _mount_variables(modules: "Modules | None") -> int:
    """efivarfs as a detached mount: there however the system is set up, and gone with its fd."""
    try:
        posix.stat(FIRMWARE)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _Absent("not booted by EFI") from None
        raise _Absent(f"{FIRMWARE}: {os_error(error)}") from None
    earlier = kexec.reason()
    if earlier:
        raise _Absent(f"{earlier}; the EFI variables are of the boot before")
    return _mount("efivarfs", [], ("efivarfs",), modules, "EFI variables")


def _partition(uuid: str, seconds: int, modules: "Modules | None") -> str:
    try:
        return devices.find_partition(uuid, seconds, modules.coldplug if modules else None)
    except Refused as error:
        raise _Absent(f"ESP {error.path}: {error.found}") from None


def _open(device: str, names: list[str], modules: "Modules | None") -> int:
    """Component by component, through no link (FAT has none, but this need not be FAT)."""
    options = [("source", device), *_VFAT]
    fd = _mount("vfat", options, MODULES[1:], modules, f"ESP {device}")
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
    for number, name in enumerate(names, 1):
        try:
            below = posix.open(
                name, flags | (posix.O_DIRECTORY if number < len(names) else 0), dir_fd=fd
            )
        except OSError as error:
            path = "/".join(names[:number])
            raise _Absent(f"{device}:/{path}: {os_error(error)}") from None
        finally:
            posix.close(fd)
        fd = below
    return fd


def _mount(
    kind: str,
    options: list[tuple[str, str | None]],
    needs: tuple[str, ...],
    modules: "Modules | None",
    what: str,
) -> int:
    missing = ""
    for name in needs:
        if modules is None:
            break
        try:
            modules.load(name)
        except Refused as error:
            # It may be built in without a list that says so: the mount will tell.
            missing += f"; {error.path}: {error.found}"
    try:
        return _cfs.fs_mount(kind, options, _ATTRIBUTES)
    except OSError as error:
        raise _Absent(f"{what} not mountable: {os_error(error)}{missing}") from None


def _text(variables: int, name: str) -> str:
    try:
        return efivar.text(_variable(variables, name, efivar.LOADER))
    except FileNotFoundError:
        raise _Absent(f"no EFI variable {name}: systemd-stub sets it since 257") from None
    except (OSError, ValueError) as error:
        raise _Absent(_wrong(name, error)) from None


def _profile(variables: int) -> int:
    """PE_BASE where the stub names none."""
    try:
        text = efivar.text(_variable(variables, "StubProfile", efivar.LOADER))
    except FileNotFoundError:
        return _cfs.PE_BASE
    except (OSError, ValueError) as error:
        raise _Absent(_wrong("StubProfile", error)) from None
    if not (0 < len(text) <= 3 and text.isascii() and text.isdigit() and int(text) < PROFILES_MAX):
        raise _Absent(f"EFI variable StubProfile is {text[:80]}")
    return int(text)


def _secure_boot(variables: int) -> str:
    try:
        on = efivar.secure_boot(_variable(variables, "SecureBoot", efivar.GLOBAL))
    except (OSError, ValueError):
        return "unknown"
    return "on" if on else "off"


def _variable(variables: int, name: str, vendor: str) -> bytes:
    return files.read(f"{name}-{vendor}", efivar.MAX, variables)


def _wrong(name: str, error: OSError | ValueError) -> str:
    return f"EFI variable {name}: {os_error(error) if isinstance(error, OSError) else error}"
