# SPDX-License-Identifier: Apache-2.0 OR MIT
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.kernel import files
from pyinit.initrd.machine import modprobe, modules
from pyinit.initrd.machine.modules import Modules
from pyinit.initrd.report.errors import Refused

DEP = b"""kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc16.ko:
kernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz
kernel/fs/fat/fat.ko.xz:
kernel/drivers/virtio/virtio-pci.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/odd.ko.lzma:
"""
ALIAS = b"""# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias crypto-crc32c crc32c_generic
alias fs-ext4 ext4
broken line here too
"""
SOFTDEP = b"""# Soft dependencies
softdep ext4 pre: crypto-crc32c not-there post: vfat
softdep crc32c_generic pre: crc32c-generic
"""
BUILTIN = b"kernel/fs/erofs/erofs.ko\nkernel/drivers/block/virtio-blk.ko\n"


class Kernel:
    """What was loaded, in order, and what it answers."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, bool]] = []
        self.arguments: dict[str, bytes] = {}
        self.errors: dict[str, int] = {}

    def load(self, fd: int, arguments: bytes, compressed: bool) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        if name in self.errors:
            raise OSError(self.errors[name], os.strerror(self.errors[name]))
        self.loaded.append((name, compressed))
        if arguments:
            self.arguments[name] = arguments

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.loaded]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    made = Kernel()
    monkeypatch.setattr("_cfs.module_load", made.load)
    monkeypatch.setattr(modules, "SYS", str(tmp_path / "sys"))
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "modules"
    for line in DEP.decode().splitlines():
        path = root / line.split(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"module")
    for name, data in (("dep", DEP), ("alias", ALIAS), ("softdep", SOFTDEP), ("builtin", BUILTIN)):
        (root / f"modules.{name}").write_bytes(data)
    return root


def refusal(made: Modules, name: str) -> str:
    with pytest.raises(Refused) as caught:
        made.load(name, "erofs")
    assert caught.value.step == "erofs"
    return str(caught.value)


def rules(lines: bytes) -> modprobe.Rules:
    """Of lines of modprobe.d."""
    made = modprobe.Rules()
    made.read(lines)
    return made


def test_needed_ones_first_soft_ones_too(kernel: Kernel, root: Path) -> None:
    made = Modules(str(root))
    made.load("ext4")
    assert sorted(kernel.names[:3]) == ["crc16.ko", "crc32c_generic.ko", "jbd2.ko"]
    assert kernel.names[3:] == ["ext4.ko", "fat.ko.xz", "vfat.ko.xz"]  # the last: `post:`
    made.load("ext4")
    made.load("ext4")
    assert len(kernel.names) == 6


def test_dash_and_underscore_and_aliases(kernel: Kernel, root: Path) -> None:
    made = Modules(str(root))
    made.load("virtio_pci")
    assert kernel.names == ["virtio.ko", "virtio-pci.ko"]
    made.load("virtio-pci")
    made.load("fs-ext4")
    assert "ext4.ko" in kernel.names
    for name in ("virtio_blk", "virtio-blk", "erofs"):  # built in
        made.load(name)
    assert len(kernel.names) == 8


def test_compressed_ones_carry_the_flag(kernel: Kernel, root: Path) -> None:
    Modules(str(root)).load("vfat")
    assert kernel.loaded == [("fat.ko.xz", True), ("vfat.ko.xz", True)]
    kernel.loaded.clear()
    Modules(str(root)).load("jbd2")
    assert kernel.loaded == [("jbd2.ko", False)]


def test_what_is_refused(kernel: Kernel, root: Path) -> None:
    made = Modules(str(root))
    assert "kernel module squash-fs: not there" in refusal(made, "squash-fs")
    assert "odd.ko.lzma: unknown suffix" in refusal(made, "odd")
    (root / "kernel/lib/crc16.ko").unlink()
    assert "crc16.ko: No such file" in refusal(made, "ext4")
    kernel.errors["fat.ko.xz"] = errno.EOPNOTSUPP
    assert "cannot unpack .ko.xz, the initrd must carry .ko" in refusal(made, "vfat")
    kernel.errors["virtio.ko"] = errno.ENODEV
    assert "virtio.ko: No such device (ENODEV)" in refusal(made, "virtio_pci")
    assert "virtio-pci.ko" not in kernel.names


def test_what_a_module_lacks_is_named(kernel: Kernel, root: Path, tmp_path: Path) -> None:
    """The kernel says ENOENT of a file that is there."""
    kernel.errors["ext4.ko"] = kernel.errors["jbd2.ko"] = errno.ENOENT
    found = "jbd2.ko: No such file or directory (ENOENT): another module, which it needs"
    found += ", is missing"
    assert refusal(Modules(str(root)), "jbd2").endswith(found)
    del kernel.errors["jbd2.ko"]
    found = found.replace("jbd2", "ext4")
    assert refusal(Modules(str(root)), "ext4").endswith(f"{found}, as it seems not-there")
    (root / "modules.dep").write_bytes(DEP.replace(b"kernel/lib/crc16.ko:\n", b""))
    assert refusal(Modules(str(root)), "ext4").endswith(f"{found}, as it seems crc16, not-there")
    (tmp_path / "sys/module/not_there").mkdir(parents=True)
    (root / "modules.builtin").write_bytes(b"kernel/lib/crc16.ko\n")
    assert refusal(Modules(str(root)), "ext4").endswith(found)


def test_loaded_already_is_fine(kernel: Kernel, root: Path) -> None:
    kernel.errors["jbd2.ko"] = errno.EEXIST
    Modules(str(root)).load("jbd2")


def test_a_soft_one_that_fails_is_noted(kernel: Kernel, root: Path) -> None:
    kernel.errors["crc32c_generic.ko"] = kernel.errors["vfat.ko.xz"] = errno.ENODEV
    made = Modules(str(root))
    made.load("ext4")
    assert kernel.names[-2:] == ["ext4.ko", "fat.ko.xz"]
    found = "No such device (ENODEV)"
    assert made.failed == {"crc32c_generic": found, "vfat": found}


def test_no_index_at_all(kernel: Kernel, tmp_path: Path) -> None:
    made = Modules(str(tmp_path / "none"))
    assert made.coldplug() == 0
    assert "kernel module ext4: not there" in refusal(made, "ext4")
    (tmp_path / "sys/module/ext4").mkdir(parents=True)
    made.load("ext4")


def test_a_file_system_that_the_kernel_has(
    kernel: Kernel, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "filesystems"
    table.write_text("nodev\tsysfs\n\text4\nnodev\toverlay\n")
    monkeypatch.setattr(modules, "FILESYSTEMS", str(table))
    made = Modules(str(root))
    made.load_filesystem("ext4")
    made.load_filesystem("overlay")
    assert kernel.names == []
    made.load_filesystem("vfat")
    assert kernel.names == ["fat.ko.xz", "vfat.ko.xz"]


def test_coldplug(kernel: Kernel, root: Path, tmp_path: Path) -> None:
    made = Modules(str(root))
    assert made.coldplug() == 0
    device = tmp_path / "sys/bus/pci/devices/0000:00:01.0"
    device.mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices/without").mkdir()
    (device / "modalias").write_text("pci:v00001AF4d00001001sv0sd2bc01sc00i00\n")
    kernel.errors["virtio.ko"] = errno.ENODEV
    assert made.coldplug() == 0
    assert made.failed == {"virtio_pci": "No such device (ENODEV)"}
    kernel.errors.clear()
    assert made.coldplug() == 0  # not tried again for the same identity
    made = Modules(str(root))
    assert made.coldplug() == 2
    assert kernel.names == ["virtio.ko", "virtio-pci.ko"]
    assert made.coldplug() == 0


def test_drivers_of_the_processor_come_first(kernel: Kernel, root: Path, tmp_path: Path) -> None:
    """fs-verity keeps the driver of a hash that it finds first."""
    for place, text in (
        ("bus/pci/devices/one", "pci:v00001AF4d1sv0sd2bc01sc00i00"),
        ("devices/system/cpu", "cpu:type:x86,ven0000fam0006mod00CF:feature:,0000,0089,00E1"),
    ):
        (tmp_path / "sys" / place).mkdir(parents=True)
        (tmp_path / "sys" / place / "modalias").write_text(text + "\n")
    with (root / "modules.alias").open("ab") as file:
        file.write(b"alias cpu:type:x86,ven*fam*mod*:feature:*0089* crc16\n")
        file.write(b"alias cpu:type:x86,ven*fam*mod*:feature:*009C* jbd2\n")
    assert Modules(str(root)).coldplug() == 3
    assert kernel.names == ["crc16.ko", "virtio.ko", "virtio-pci.ko"]


def test_what_did_not_load_is_one_bounded_text() -> None:
    made = Modules("/nowhere")
    assert made.not_loaded() == ""
    made.failed = {"kvm": "No such device (ENODEV)", "nvme": "Exec format error (ENOEXEC)"}
    assert made.not_loaded() == (
        "drivers that did not load: nvme: Exec format error (ENOEXEC), kvm: No such device (ENODEV)"
    )
    # Without its device a driver says ENODEV: the one of the disk must not be lost behind many.
    made.failed = {f"cpu{n}": "No such device (ENODEV)" for n in range(999)} | made.failed
    text = made.not_loaded()
    assert "nvme: Exec" in text
    assert text.endswith(", and 995 more")
    assert len(text) < 500
    made.failed = {"n" * 9999: "x" * 9999}
    assert len(made.not_loaded()) < 500


def test_circles(kernel: Kernel, root: Path) -> None:
    (root / "modules.dep").write_bytes(b"a.ko: b.ko\nb.ko: a.ko\nc.ko:\n")
    assert "modules.dep: module a needs itself" in refusal(Modules(str(root)), "a")
    # A soft circle is no reason to stop, nor to leave other soft ones out.
    (root / "modules.softdep").write_bytes(b"softdep c pre: d\nsoftdep d pre: c e\n")
    (root / "modules.dep").write_bytes(b"c.ko:\nd.ko:\ne.ko:\n")
    for name in "cde":
        (root / f"{name}.ko").write_bytes(b"")
    Modules(str(root)).load("c")
    assert kernel.names == ["e.ko", "d.ko", "c.ko"]


def test_what_comes_after_goes_round(kernel: Kernel, root: Path) -> None:
    """With all that it needs itself, and each once."""
    (root / "modules.softdep").write_bytes(
        b"softdep c post: d\nsoftdep d pre: e post: c f\nsoftdep e pre: d\n"
    )
    (root / "modules.dep").write_bytes(b"c.ko:\nd.ko:\ne.ko:\nf.ko: g.ko\ng.ko:\n")
    for name in "cdefg":
        (root / f"{name}.ko").write_bytes(b"")
    Modules(str(root)).load("c")
    assert kernel.names == ["c.ko", "e.ko", "d.ko", "g.ko", "f.ko"]


def test_parameters_are_handed_over(kernel: Kernel, root: Path) -> None:
    wanted = rules(b'options virtio-pci force=1 name="a b"\noptions jbd2 x')
    wanted.options["virtio_pci"].append(b"force=2")
    made = Modules(str(root), wanted)
    made.load("virtio_pci")
    assert kernel.names == ["virtio.ko", "virtio-pci.ko"]
    assert kernel.arguments == {"virtio-pci.ko": b'force=1 name="a b" force=2'}


def test_too_many_parameters(kernel: Kernel, root: Path) -> None:
    for size, refused in ((4096, False), (4097, True)):
        made = Modules(str(root), rules(b"options jbd2 " + b"x" * size))
        if refused:
            said = refusal(made, "jbd2")
            assert "kernel module jbd2: 4097 bytes of parameters, expected at most 4096" in said
        else:
            made.load("jbd2")
    assert list(map(len, kernel.arguments.values())) == [4096]


def test_a_blacklist_is_for_devices_and_aliases(kernel: Kernel, root: Path, tmp_path: Path) -> None:
    """As modprobe: what another module needs is loaded, and what has its own name given too."""
    device = tmp_path / "sys/bus/pci/devices/0000:00:01.0"
    device.mkdir(parents=True)
    (device / "modalias").write_text("pci:v00001AF4d00001001sv0sd2bc01sc00i00\n")
    made = Modules(str(root), rules(b"blacklist virtio\nblacklist ext4\nblacklist virtio-pci"))
    assert made.coldplug() == 0
    assert made.not_loaded() == "drivers that did not load: virtio_pci: blacklisted"
    assert "fs-ext4: not there" in refusal(made, "fs-ext4")
    assert kernel.names == []
    made.load("virtio-pci")
    assert kernel.names == ["virtio.ko", "virtio-pci.ko"]


def test_what_is_on_no_blacklist_is_told_to_be_on_none(
    kernel: Kernel, root: Path, tmp_path: Path
) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:00:01.0"
    device.mkdir(parents=True)
    (device / "modalias").write_text("pci:v00001AF4d00001001sv0sd2bc01sc00i00\n")
    made = Modules(str(root), rules(b"blacklist ext4"))
    assert made.coldplug() == 2
    assert made.not_loaded() == ""


def test_a_command_in_place_of_a_module_is_not_run(kernel: Kernel, root: Path) -> None:
    """Nor is the module loaded: `install MODULE /bin/false` forbids it."""
    made = Modules(str(root), rules(b"install virtio /bin/false\ninstall jbd2 x\ninstall vfat x"))
    said = refusal(made, "virtio-pci")
    assert "virtio.ko: modprobe.d has a command in its place, and none is run here" in said
    assert "jbd2.ko: modprobe.d has" in refusal(made, "ext4")
    assert not {"virtio.ko", "virtio-pci.ko", "jbd2.ko", "ext4.ko"} & set(kernel.names)


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (modules.parse_dep, b"no colon\n"),
        (modules.parse_dep, b"# a.ko: b.ko\n"),
        (modules.parse_alias, b"symbol a b\nalias a\nalias a b c\n# alias a b\n"),
    ],
)
def test_lines_that_say_nothing(parse: Callable[[bytes], object], data: bytes) -> None:
    assert not parse(data)


def test_the_directory_of_the_running_kernel(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that has an index; without any, the first, for messages."""
    release = os.uname().release
    monkeypatch.setattr(modules, "ROOTS", [f"{tmp_path}/usr", f"{tmp_path}/lib"])
    assert Modules().root == f"{tmp_path}/usr/{release}"
    second = tmp_path / "lib" / release
    second.mkdir(parents=True)
    assert Modules().root == f"{tmp_path}/usr/{release}"
    (second / "modules.dep").write_bytes(b"")
    assert Modules().root == str(second)
    first = tmp_path / "usr" / release
    first.mkdir(parents=True)
    (first / "modules.dep").write_bytes(b"")
    assert Modules().root == str(first)


def test_a_need_without_a_line_of_its_own(kernel: Kernel, root: Path) -> None:
    (root / "modules.dep").write_bytes(b"a.ko: b.ko\n")
    (root / "a.ko").write_bytes(b"")
    Modules(str(root)).load("a")
    assert kernel.names == ["a.ko"]


def test_a_file_elsewhere(kernel: Kernel, root: Path, tmp_path: Path) -> None:
    """depmod writes whole paths where it was given another directory."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.ko").write_bytes(b"")
    (root / "modules.dep").write_text(f"{tmp_path}/out/a.ko:\n")
    Modules(str(root)).load("a")
    assert kernel.names == ["a.ko"]


@pytest.mark.parametrize(
    ("file", "error", "told"),
    [
        ("fat.ko.xz", errno.EOPNOTSUPP, True),
        ("fat.ko.xz", errno.ENODEV, False),
        ("jbd2.ko", errno.EOPNOTSUPP, False),
    ],
)
def test_only_a_packed_one_is_said_to_be_packed(
    kernel: Kernel, root: Path, file: str, error: int, told: bool
) -> None:
    kernel.errors[file] = error
    said = refusal(Modules(str(root)), file.partition(".")[0])
    assert ("this kernel cannot unpack" in said) is told


def test_the_whole_alias_counts(kernel: Kernel, root: Path) -> None:
    (root / "modules.alias").write_bytes(b"alias pci:v1d*bc02 jbd2\n")
    made = Modules(str(root))
    assert "not there" in refusal(made, "pci:v1d5bc03")
    made.load("pci:v1d5bc02")
    assert kernel.names == ["jbd2.ko"]


def test_an_index_that_cannot_be_read_is_named(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "modules.dep").mkdir()
    with pytest.raises(Refused, match=rf"store: {tmp_path}/modules.dep: .*EISDIR"):
        Modules(str(tmp_path))


def test_each_index_is_read_once(
    kernel: Kernel, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = files.read

    def count(path: str, most: int) -> bytes:
        read.append(path)
        return real(path, most)

    monkeypatch.setattr(files, "read", count)
    made = Modules(str(root))
    for _ in range(3):
        made.load("erofs")
    assert sorted(os.path.basename(path) for path in read) == [
        "modules.alias", "modules.builtin", "modules.dep", "modules.softdep",
    ]  # fmt: skip


def test_no_name_is_no_module(kernel: Kernel, root: Path, tmp_path: Path) -> None:
    """Lines end with a newline: after the last one there is nothing. Nor is there an identity in an
    empty line."""
    assert "not there" in refusal(Modules(str(root)), "")
    device = tmp_path / "sys/bus/pci/devices/one"
    device.mkdir(parents=True)
    (device / "modalias").write_text("\n\n")
    (root / "modules.alias").write_bytes(b"alias * jbd2\n")
    assert Modules(str(root)).coldplug() == 0


@given(st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=5)))
def test_order(wanted: dict[int, list[int]]) -> None:
    graph = {str(key): [str(need) for need in needs] for key, needs in wanted.items()}
    try:
        result = modules.order(list(graph), lambda name: graph.get(name, []))
    except ValueError:
        return
    assert len(set(result)) == len(result)
    for name, needs in graph.items():
        assert all(result.index(need) < result.index(name) for need in needs)


def test_order_is_not_bounded_by_the_stack() -> None:
    chain = modules.order(["0"], lambda name: [str(int(name) + 1)] if int(name) < 20000 else [])
    assert chain[0] == "20000"


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    modules.parse_dep(data)
    for start, pattern, _ in modules.parse_alias(b"alias " + data):
        assert pattern.startswith(start)
