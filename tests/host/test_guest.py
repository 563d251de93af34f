# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The initrd of a virtual machine: its programs run in it. A boot: test_seal_disk.py."""

import platform
import stat
import subprocess
from pathlib import Path

import pytest

from pyinit import VERSION
from pyinit.host import guest
from pyinit.host.commands.seal_in_guest import PROGRAMS, main
from pyinit.host.guest import Kernel
from pyinit.host.uki.cpio import read_cpio
from pyinit.initrd.report.errors import SystemFailure

OLD, NEW = "6.9.12-cloud-amd64", "6.12.117+deb13-cloud-amd64"
# One needs two, and nobody three.
DEP = "kernel/one.ko.xz: kernel/two.ko\nkernel/two.ko:\nkernel/three.ko:\n"


def make_tree(tree: Path, *versions: str) -> Path:
    """A root with these kernels."""
    (tree / "boot").mkdir(parents=True)
    for version in versions:
        (tree / "boot" / f"vmlinuz-{version}").write_bytes(b"kernel")
        modules = tree / "lib/modules" / version
        (modules / "kernel").mkdir(parents=True)
        (modules / "modules.dep").write_text(DEP)
        for name in ("one.ko.xz", "two.ko", "three.ko"):
            (modules / "kernel" / name).write_text(f"driver {name}")
    return tree


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an initrd, made where a directory has the name of a module of Windows."""
    directory = tmp_path_factory.mktemp("initrd")
    (directory / "path/winreg").mkdir(parents=True)
    kernel = guest.find_kernel(make_tree(directory / "tree", NEW))
    extra = directory / "extra"
    extra.write_text('#!/bin/sh\necho "extra $1"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory / "path")
        archive = guest.initrd(
            kernel, "extra 1\nexit 3\n", files=[extra], programs=PROGRAMS,
            commands=["cfs-store"], drivers=["none", "one"],
        )  # fmt: skip
    root = directory / "root"
    for entry in read_cpio(archive)[0]:
        path = root / entry.name
        if stat.S_ISDIR(entry.mode):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(entry.data)
            path.chmod(stat.S_IMODE(entry.mode))
    return root


def entered(root: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/usr/sbin/chroot", root, *command],
        env={"PATH": "/usr/bin"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def test_its_commands_run(unpacked: Path) -> None:
    done = entered(unpacked, "/usr/bin/cfs-store", "--version")
    assert (done.stdout, done.stderr) == (f"cfs-store {VERSION}\n", "")


def test_what_is_imported_later_is_there(unpacked: Path) -> None:
    """It refuses what is no store, by the whole way to its end."""
    (unpacked / "nothing").mkdir()
    done = entered(unpacked, "/usr/bin/cfs-store", "seal", "/nothing/there")
    assert done.returncode == 2
    assert done.stderr.startswith("cfs-store: error: store: /nothing/there: ")


@pytest.mark.parametrize("name", sorted({*PROGRAMS, "cat", "sleep"}))
def test_its_programs_find_their_libraries(unpacked: Path, name: str) -> None:
    done = entered(unpacked, f"/usr/bin/{name}", "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_script_runs(unpacked: Path) -> None:
    done = entered(unpacked, "/bin/sh", "/command")
    assert (done.returncode, done.stdout) == (3, "extra 1\n")


def test_drivers_come_with_what_they_need(unpacked: Path) -> None:
    modules = unpacked / "lib/modules" / NEW
    found = {path.relative_to(modules).as_posix() for path in modules.rglob("*.*")}
    assert found == {"modules.dep", "kernel/one.ko.xz", "kernel/two.ko"}
    assert (modules / "kernel/one.ko.xz").read_text() == "driver one.ko.xz"


def test_drivers_are_loaded_by_the_guest(unpacked: Path) -> None:
    """Those that the tree has. The kernel that tests knows nothing of such a driver."""
    done = entered(
        unpacked, "/bin/sh", "-c",
        "PYTHONHOME=/python PYTHONPATH=/python exec python3 -S -c 'import posix\n"
        "name = posix.uname()\n"
        f'posix.uname = lambda: type(name)((*name[:2], "{NEW}", *name[3:]))\n'
        'exec(open("/drivers.py").read())\'',
    )  # fmt: skip
    assert "/lib/modules/" in done.stderr
    assert "two.ko" in done.stderr


def test_the_newest_kernel_that_has_modules(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, OLD, NEW)
    (tree / "boot/vmlinuz-7.3.4").touch()
    assert guest.find_kernel(tree) == Kernel(
        tree / "boot" / f"vmlinuz-{NEW}", NEW, tree / "lib/modules" / NEW
    )


@pytest.mark.parametrize(("table", "size"), [(512, 512), (4096, 4096), (None, 512)])
def test_sectors_are_as_long_as_the_table_says(
    table: int | None, size: int, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    content = bytearray(8192)
    if table:
        content[table : table + 8] = b"EFI PART"
    disk.write_bytes(content)
    assert guest.sector_size(disk) == size


# ---- QEMU, played


def play(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A machine that says what `script` does, and notes its command line."""
    program = directory / "qemu"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{directory}/arguments"\n{script}')
    program.chmod(0o755)
    monkeypatch.setattr(guest, "_which", lambda name: program)
    monkeypatch.setattr(guest, "_KVM", str(directory))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    disk = directory / "a,disk"
    disk.write_bytes(bytes(8192))
    return disk


def test_what_it_says_is_told_up_to_its_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_by_it = "sealing\\r\\nguest: exit x\\r\\nguest: exit 32\\r\\nlater\\n"
    disk = play(tmp_path, monkeypatch, f"printf '{said_by_it}'")
    kernel = Kernel(tmp_path / "vmlinuz", NEW, tmp_path)
    said: list[str] = []
    assert guest.run(kernel, tmp_path / "initrd", disk, said.append) == 32
    assert said == ["sealing", "guest: exit x"]
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert f"if=none,id=disk,format=raw,file={tmp_path}/a,,disk" in arguments
    assert arguments[arguments.index("-kernel") + 1] == str(kernel.file)
    assert "-no-reboot" in arguments


def test_a_machine_that_ends_without_an_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = play(tmp_path, monkeypatch, "echo panic\n")
    with pytest.raises(SystemFailure, match="ended too early"):
        guest.run(Kernel(disk, NEW, tmp_path), disk, disk, lambda _line: None)


def test_a_machine_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = play(tmp_path, monkeypatch, "echo guest: exit 0\nexec sleep 600 >/dev/null\n")
    monkeypatch.setattr(guest, "_PATIENCE_SECONDS", 0)
    assert guest.run(Kernel(disk, NEW, tmp_path), disk, disk, lambda _line: None) == 0


@pytest.mark.parametrize("kvm", ["exit 1", "echo KVM internal error. Suberror: 1; exec sleep 600"])
def test_without_a_kvm_that_works_it_is_emulated(
    kvm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = play(
        tmp_path, monkeypatch, f'case "$*" in\n*" -accel kvm") {kvm} ;;\nesac\necho guest: exit 0\n'
    )
    assert guest.run(Kernel(disk, NEW, tmp_path), disk, disk, lambda _line: None) == 0
    assert (tmp_path / "arguments").read_text().endswith("-accel\ntcg\n")


# ---- what is missing


def test_no_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk").touch()
    assert main(["script", str(tmp_path), str(tmp_path / "disk")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"cfs-seal-disk: error: source: {tmp_path}/boot: no kernel with modules")


def test_no_disk_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["script", str(tmp_path), "/dev/null"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cfs-seal-disk: error: source: /dev/null: not a disk image")


def test_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guest, "_PATH", str(tmp_path))
    kernel = guest.find_kernel(make_tree(tmp_path / "tree", NEW))
    with pytest.raises(SystemFailure, match="not in PATH"):
        guest.initrd(kernel, "", files=[], programs=["sed"], commands=[], drivers=[])


def test_another_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(SystemFailure, match="no virtual machine for it"):
        guest.run(Kernel(tmp_path, NEW, tmp_path), tmp_path, tmp_path, lambda _line: None)
