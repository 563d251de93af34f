# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A virtual machine that ends: QEMU with a serial console, a result port and a hard time limit."""

import contextlib
import functools
import os
import re
import selectors
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.cpio import Entry, write_cpio

from .once import BUILD, made_once
from .toolbox import Toolbox

# Commas in a -drive value are option separators: paths given to QEMU have none.
_SAFE_PATH = re.compile(r"[^,]+")
_TAIL = 4000
# Beside other load the timer that the kernel tries out may be late under emulation: it would panic.
COMMAND_LINE = "console=ttyS0 panic=-1 no_timer_check"


class GuestError(Exception):
    """QEMU or a helper of it could not run; not for what the guest itself does wrong."""


@dataclass(frozen=True)
class Disk:
    """A virtio-blk disk: /dev/vda, vdb, ... in the order given."""

    path: Path
    format: str = "raw"
    """raw or qcow2."""
    read_only: bool = False
    discard_writes: bool = False
    """Writes go to a temporary file that QEMU throws away (snapshot=on)."""


@dataclass(frozen=True)
class Firmware:
    """UEFI (OVMF) instead of a direct kernel boot."""

    secure_boot: bool = False
    """Enforced, with the "snakeoil" keys of Debian's ovmf package enrolled: `sign` uses them."""
    variables: Path | None = None
    """Variable store that is kept; without it each boot starts from the template."""
    tpm: Path | None = None
    """State directory of a TPM 2.0 (swtpm), made if it is missing."""


@dataclass(frozen=True)
class Console:
    """What a boot left."""

    text: str
    """The serial console, and QEMU's own messages."""
    results: bytes
    """What was written to the result port (/dev/vport0p1)."""
    timed_out: bool
    seconds: float

    @property
    def tail(self) -> str:
        """The end of the console, for messages."""
        return self.text[-_TAIL:]


def boot(
    toolbox: Toolbox,
    *,
    kernel: Path | None = None,
    initrd: bytes | None = None,
    append: str = "",
    disks: Sequence[Disk] = (),
    firmware: Firmware | None = None,
    memory: int = 512,
    cpus: int = 1,
    icount: bool = False,
    limit: float = 120,
    until: str | None = None,
    kvm: bool | None = None,
    log: Path | None = None,
    arguments: Sequence[str] = (),
) -> Console:
    """Boot, and wait for power-off, reboot (panic included), `until`, or `limit` seconds.

    `memory` in MiB. `until`: a regular expression; once the console shows it, the guest is ended.
    `icount`: guest time is a count of instructions, independent of the host's load (TCG).
    `kvm`: None uses it where it works. `log`: file that gets the console while it runs.
    `arguments`: more of them for QEMU.
    """
    if kvm is None:
        kvm = not icount and kvm_works(toolbox)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guest-")))
        results = work / "results"
        results.touch()
        secure = firmware is not None and firmware.secure_boot
        command = [
            *toolbox.command("qemu-system-x86_64"),
            "-nodefaults",
            "-no-user-config",
            "-machine",
            f"q35,accel={'kvm' if kvm else 'tcg'}" + (",smm=on" if secure else ""),
            "-cpu",
            "host" if kvm else "max",
            "-smp",
            str(cpus),
            "-m",
            f"{memory}M",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-device",
            "virtio-serial-pci",
            "-chardev",
            f"file,id=results,path={results}",
            "-device",
            "virtserialport,chardev=results,name=results",
            "-device",
            "virtio-rng-pci",
        ]
        if icount:
            command += ["-icount", "shift=0,sleep=off"]
        if kernel:
            command += ["-kernel", str(kernel), "-append", f"{COMMAND_LINE} {append}"]
            if initrd is not None:
                (work / "initrd").write_bytes(initrd)
                command += ["-initrd", str(work / "initrd")]
        for number, disk in enumerate(disks):
            command += _disk_arguments(number, disk)
        if firmware:
            command += _firmware_arguments(toolbox, firmware, work)
            if firmware.tpm:
                command += stack.enter_context(_tpm(toolbox, firmware.tpm, work))
        command += arguments
        started = time.monotonic()
        text, timed_out = _run(command, started + limit, until, log)
        return Console(text, results.read_bytes(), timed_out, time.monotonic() - started)


def _disk_arguments(number: int, disk: Disk) -> list[str]:
    if not _SAFE_PATH.fullmatch(str(disk.path)):
        raise ValueError(f"a comma in {disk.path}")
    drive = f"if=none,id=disk{number},format={disk.format},file={disk.path},cache=unsafe"
    if disk.read_only:
        drive += ",readonly=on"
    if disk.discard_writes:
        drive += ",snapshot=on"
    return [
        "-drive",
        drive,
        "-device",
        f"virtio-blk-pci,drive=disk{number},bootindex={number + 1}",
    ]


def _firmware_arguments(toolbox: Toolbox, firmware: Firmware, work: Path) -> list[str]:
    secure = firmware.secure_boot
    code = toolbox.path(f"usr/share/OVMF/OVMF_CODE_4M{'.secboot' if secure else ''}.fd")
    template = toolbox.path(f"usr/share/OVMF/OVMF_VARS_4M{'.snakeoil' if secure else ''}.fd")
    variables = firmware.variables or work / "variables.fd"
    if not variables.exists():
        shutil.copyfile(template, variables)
    arguments = [
        "-drive",
        f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
        "-drive",
        f"if=pflash,unit=1,format=raw,file={variables}",
    ]
    if secure:
        arguments += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return arguments


@contextmanager
def _tpm(toolbox: Toolbox, state: Path, work: Path) -> Iterator[list[str]]:
    state.mkdir(parents=True, exist_ok=True)
    control = work / "tpm.sock"
    with subprocess.Popen(
        [
            *_dies_with_us(),
            *toolbox.command("swtpm"),
            "socket",
            "--tpm2",
            "--tpmstate",
            f"dir={state}",
            "--ctrl",
            f"type=unixio,path={control}",
            "--flags",
            "startup-clear",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as swtpm:
        try:
            deadline = time.monotonic() + 30
            while not control.exists():
                if swtpm.poll() is not None or time.monotonic() > deadline:
                    swtpm.kill()
                    output = swtpm.stdout.read() if swtpm.stdout else b""
                    raise GuestError(f"swtpm did not start: {output!r}")
                time.sleep(0.01)
            yield [
                "-chardev",
                f"socket,id=tpm,path={control}",
                "-tpmdev",
                "emulator,id=tpm0,chardev=tpm",
                "-device",
                "tpm-tis,tpmdev=tpm0",
            ]
        finally:
            swtpm.kill()


def sign(toolbox: Toolbox, image: Path, output: Path) -> Path:
    """Sign an EFI executable with the key that `Firmware(secure_boot=True)` trusts."""
    with tempfile.TemporaryDirectory() as name:
        # The key of the package is encrypted; its passphrase is public: "snakeoil".
        key = Path(name) / "key"
        subprocess.run(
            [
                "openssl",
                "rsa",
                "-passin",
                "pass:snakeoil",
                "-out",
                key,
                "-in",
                toolbox.path("usr/share/ovmf/PkKek-1-snakeoil.key"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        certificate = toolbox.path("usr/share/ovmf/PkKek-1-snakeoil.pem")
        toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", output, image)
    return output


def _dies_with_us() -> list[str]:
    """A killed test run must not leave machines behind."""
    return ["setpriv", "--pdeathsig", "KILL", "--"]


def _run(
    command: list[str], deadline: float, until: str | None, log: Path | None
) -> tuple[str, bool]:
    pattern = re.compile(until) if until else None
    text = ""
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("wb")) if log else None
        qemu = stack.enter_context(
            subprocess.Popen(
                [*_dies_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        stack.callback(qemu.kill)
        assert qemu.stdout
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(qemu.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return text, True
            if not selector.select(left):
                continue
            chunk = os.read(qemu.stdout.fileno(), 1 << 16)
            if out:
                out.write(chunk)
                out.flush()
            if not chunk:
                break
            text += chunk.decode(errors="replace")
            if pattern and pattern.search(text):
                return text, False
        code = qemu.wait(timeout=30)
        if code:
            raise GuestError(f"QEMU: exit {code}: {text[-_TAIL:]}")
        return text, False


@functools.cache
def kvm_works(toolbox: Toolbox) -> bool:
    """Whether a guest really runs under KVM: /dev/kvm may be there and still be of no use."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def probe(directory: Path) -> None:
        init = b"#!/bin/busybox sh\n/bin/busybox echo kvm''-works\n/bin/busybox poweroff -f\n"
        initrd = write_cpio(
            [
                Entry("init", stat.S_IFREG | 0o755, init),
                Entry(
                    "bin/busybox",
                    stat.S_IFREG | 0o755,
                    toolbox.path("usr/bin/busybox").read_bytes(),
                ),
                Entry("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)),
            ]
        )
        try:
            console = boot(
                toolbox,
                kernel=toolbox.kernel("stable").vmlinuz,
                initrd=initrd,
                kvm=True,
                limit=15,
                until="kvm-works",
            )
            works = "kvm-works" in console.text
        except GuestError:
            works = False
        (directory / "works").write_text("yes" if works else "no")

    probed = made_once(BUILD / "vm-cache" / "kvm", boot_id, probe)
    return (probed / "works").read_text() == "yes"
