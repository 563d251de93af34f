# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A virtual machine that ends: QEMU with a serial console, a result port and a hard time limit."""

import contextlib
import functools
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyinit.host.uki.cpio import Entry, write_cpio

from .ledger import LEDGER
from .once import BUILD, made_once
from .pace import IDLE_SECONDS, MOST, Measured, Steady
from .target import TARGET
from .toolbox import Toolbox
from .watch import Ending, Limits, Pace, dies_with_us, watch

# Commas in a -drive value are option separators: paths given to QEMU have none.
_SAFE_PATH = re.compile(r"[^,]+")
_TAIL = 4000
COMMAND_LINE = TARGET.command_line

# What a test's own first program says on the console, whatever the kernel's log level is.
BEGUN = "guest: begun"
# Where it is the product or a distribution's: what the kernel says then, unless it has to be quiet.
KERNEL_BEGINS = r"Run \S+ as init process|Attempted to kill init|" + BEGUN
# Until then; several times what it takes on an idle machine.
KERNEL_SECONDS = 120.0
FIRMWARE_SECONDS = 240.0
_TPM_SECONDS = 300


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
    """UEFI (OVMF, AAVMF) instead of a direct kernel boot."""

    secure_boot: bool = False
    """Enforced, with the "snakeoil" keys of the firmware's package enrolled: `sign` uses them."""
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
    """From where its program has begun."""

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
    begun: str = KERNEL_BEGINS,
    kvm: bool | None = None,
    log: Path | None = None,
    arguments: Sequence[str] = (),
) -> Console:
    """Boot, and wait for power-off, reboot (panic included), `until`, or `limit` seconds.

    `limit` counts from where the guest's program has begun, and for an idle machine (pace.py).
    A guest that does not come to its program says nothing: it is started once more; GuestError
    after a second time. `begun`: a regular expression, what the console shows where it has.
    `memory` in MiB. `cpus`: one, but where a test is about several: two guests run at a time, and
    an emulated processor that is idle may lose its timer (one hung at its power-off). `until`: a
    regular expression; once the console shows it, the guest is ended.
    `icount`: guest time is a count of instructions, independent of the host's load (TCG).
    `kvm`: None uses it where it works. `log`: file that gets the console while it runs.
    `arguments`: more of them for QEMU.
    """
    if kvm is None:
        kvm = not icount and kvm_works(toolbox)
    early = FIRMWARE_SECONDS if firmware else KERNEL_SECONDS
    never = []
    LEDGER.started += 1
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guest-")))
            command = _command(toolbox, work, kvm, kernel, initrd, append, memory, cpus)
            if icount:
                command += ["-icount", "shift=0,sleep=off"]
            for number, disk in enumerate(disks):
                command += _disk_arguments(number, disk)
            if firmware:
                command += _firmware_arguments(toolbox, firmware, work)
                if firmware.tpm:
                    tpm = stack.enter_context(swtpm(toolbox, firmware.tpm, work))
                    command += tpm.arguments
            ended = watch(
                [*command, *arguments],
                pace(toolbox), Limits(early, limit), begun=begun, until=until, log=log,
            )  # fmt: skip
            results = (work / "results").read_bytes()
        if ended.came:
            break
        never.append(_never(ended))
        if len(never) == 1:
            where = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0] or "a guest"
            LEDGER.again.append(f"{where}: {never[0].splitlines()[0]}")
    else:
        raise GuestError("twice " + "\n--- the first time\n".join(reversed(never)))
    if ended.code:
        raise GuestError(f"QEMU: exit {ended.code}: {ended.text[-_TAIL:]}")
    return Console(ended.text, results, ended.timed_out, ended.seconds)


def _never(ended: Ending) -> str:
    """Why a guest never came to its program: a line, and its console."""
    lines = [line.strip() for line in ended.text.splitlines() if line.strip()]
    panics = [line for line in lines if "Kernel panic" in line]
    last = (panics or lines or ["nothing on its console"])[-1]
    how = f"hung for {ended.seconds:.0f} s" if ended.timed_out else f"ended (QEMU: {ended.code})"
    return f"it {how} before its program: {last}\n{ended.text[-_TAIL:]}"


def _command(
    toolbox: Toolbox,
    work: Path,
    kvm: bool,
    kernel: Path | None,
    initrd: bytes | None,
    append: str = "",
    memory: int = 512,
    cpus: int = 1,
) -> list[str]:
    """QEMU, as far as all guests have it in common."""
    results = work / "results"
    results.touch()
    command = [
        *toolbox.command(TARGET.qemu),
        "-nodefaults",
        "-no-user-config",
        "-machine",
        f"{TARGET.machine},accel={'kvm' if kvm else 'tcg'}",
        "-cpu",
        "host" if kvm else TARGET.cpu,
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
    if kernel:
        command += ["-kernel", str(kernel), "-append", f"{COMMAND_LINE} {append}"]
        if initrd is not None:
            (work / "initrd").write_bytes(initrd)
            command += ["-initrd", str(work / "initrd")]
    return command


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
    marks = TARGET.secure if firmware.secure_boot else (TARGET.with_tpm if firmware.tpm else "", "")
    code, template = (
        toolbox.path(TARGET.firmware.format(kind=kind, secure=mark))
        for kind, mark in zip(("CODE", "VARS"), marks, strict=True)
    )
    variables = firmware.variables or work / "variables.fd"
    if not variables.exists():
        shutil.copyfile(template, variables)
    arguments = [
        "-drive",
        f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
        "-drive",
        f"if=pflash,unit=1,format=raw,file={variables}",
    ]
    if firmware.secure_boot:
        arguments += TARGET.secure_arguments
    return arguments


@dataclass(frozen=True)
class Tpm:
    """A TPM 2.0 in software."""

    arguments: list[str]
    """For QEMU."""
    process: "subprocess.Popen[bytes]"


def allocate_banks(toolbox: Toolbox, state: Path, banks: str) -> None:
    """A new TPM in `state` with these alone: `sha1,sha256`."""
    state.mkdir(parents=True)
    program = f"{toolbox.command('swtpm')[0]} socket"
    toolbox.run(
        "swtpm_setup", "--tpm2", "--tpmstate", state, "--tpm", program, "--pcr-banks", banks,
        "--config", os.devnull,
    )  # fmt: skip


@contextmanager
def swtpm(toolbox: Toolbox, state: Path, work: Path) -> Iterator[Tpm]:
    """A TPM as long as the `with`. `state`: its directory, made if it is missing; `work`: for its
    socket, a short path."""
    state.mkdir(parents=True, exist_ok=True)
    control = work / "tpm.sock"
    with subprocess.Popen(
        [
            *dies_with_us(),
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
    ) as process:
        try:
            deadline = time.monotonic() + _TPM_SECONDS
            while not control.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    output = process.stdout.read() if process.stdout else b""
                    raise GuestError(f"swtpm did not start: {output!r}")
                time.sleep(0.01)
            arguments = [
                "-chardev",
                f"socket,id=tpm,path={control}",
                "-tpmdev",
                "emulator,id=tpm0,chardev=tpm",
                "-device",
                f"{TARGET.tpm},tpmdev=tpm0",
            ]
            yield Tpm(arguments, process)
        finally:
            process.kill()


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
                toolbox.path(f"{TARGET.keys}/PkKek-1-snakeoil.key"),
            ],
            check=True,
            capture_output=True,
            timeout=600,
        )
        certificate = toolbox.path(f"{TARGET.keys}/PkKek-1-snakeoil.pem")
        toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", output, image)
    return output


@functools.cache
def kvm_works(toolbox: Toolbox) -> bool:
    """Whether a guest really runs under KVM: /dev/kvm may be there and still be of no use."""
    if not TARGET.native or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def probe(directory: Path) -> None:
        works = _least(toolbox, kvm=True, limit=15).came
        (directory / "works").write_text("yes" if works else "no")

    probed = made_once(BUILD / "vm-cache" / "kvm", boot_id, probe)
    return (probed / "works").read_text() == "yes"


@functools.cache
def pace(toolbox: Toolbox) -> Pace:
    """How slow this machine is."""
    return Measured(BUILD / "vm-cache" / "pace.json", lambda: _seconds(toolbox))


def _seconds(toolbox: Toolbox) -> float:
    """What the least of all guests takes to begin."""
    kvm = kvm_works(toolbox)
    for _ in range(3):
        started = time.monotonic()
        ended = _least(toolbox, kvm, MOST * IDLE_SECONDS)
        if ended.came or ended.timed_out:
            return time.monotonic() - started
    raise GuestError(f"the guest that measures this machine: {_never(ended)}")


def _least(toolbox: Toolbox, kvm: bool, limit: float) -> Ending:
    """A guest whose program says that it has begun, and no more."""
    init = f"#!/bin/busybox sh\n/bin/busybox echo {BEGUN}\n/bin/busybox poweroff -f\n".encode()
    busybox = toolbox.guest_path("usr/bin/busybox").read_bytes()
    initrd = write_cpio(
        [
            Entry("init", stat.S_IFREG | 0o755, init),
            Entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
            Entry("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)),
        ]
    )
    with tempfile.TemporaryDirectory(prefix="guest-") as name:
        command = _command(toolbox, Path(name), kvm, toolbox.kernel("stable").vmlinuz, initrd)
        return watch(command, Steady(), Limits(limit, 0), begun=BEGUN, until=BEGUN)
