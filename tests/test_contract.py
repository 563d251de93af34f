# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel's contract with who mounts the root, word by word: which tests hold it, and that the
manual of our `init` says it.

The words are what the kernel, modprobe and the initrds of others obey. Where a guest boots with a
word, that test stands first.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MANUAL = (ROOT / "man/cfs-init.8").read_text()


@dataclass(frozen=True)
class Row:
    """What is on the command line, as cfs-init(8) has it, and the tests: `file: function` below
    tests/, without `test_` in front of the function."""

    word: str
    manual: str
    tests: tuple[str, ...]


_INIT, _KEXEC = "vm/test_init.py", "vm/test_by_firmware.py"
_DISK, _DEVICES = "initrd/machine/test_rootdisk.py", "initrd/machine/test_devices.py"
_NAMED, _BTRFS = "initrd/machine/test_named.py", "initrd/machine/test_btrfs.py"
_MODULES, _MODPROBE = "initrd/machine/test_modules.py", "initrd/machine/test_modprobe.py"
_DISCOVER = "initrd/machine/test_discover.py"

ROWS = (
    Row("rootflags= of the file system and of the mount", ".It Cm rootflags=", (
        f"{_INIT}: boots_a_partition_on_btrfs",
        f"{_INIT}: boots_a_btrfs_over_two_disks",
        f"{_DISK}: the_options_of_the_command_line_are_obeyed",
        f"{_DISK}: a_wish_for_noexec_holds_for_state_too",
    )),
    Row("rootflags= that the file system does not know", "does not know stops the boot", (
        f"{_DISK}: options_that_the_kernel_does_not_take_are_named",
    )),
    Row("rootflags=device=", ".Cm device= :", (f"{_DISK}: nobody_names_the_devices_of_a_btrfs",)),
    Row("rootflags=degraded", ".Cm degraded", (
        f"{_INIT}: a_device_of_a_btrfs_that_is_missing",
        f"{_BTRFS}: degraded_waits_all_the_same",
    )),
    Row("rootfstype= with several", "several are tried in order", (
        f"{_INIT}: boots_a_partition_on_btrfs",
        f"{_DISK}: a_list_of_file_systems_is_gone_through",
        f"{_DISK}: a_list_has_what_this_initrd_does_not",
    )),
    Row("rootwait", ".It Cm rootwait", (f"{_DEVICES}: rootwait_makes_it_more_patient",)),
    Row("rootdelay=", ".Cm rootdelay=", (
        f"{_DEVICES}: rootdelay_has_a_number_and_the_longest_counts",
        "initrd/test_boot.py: how_long_the_disk_is_waited_for",
    )),
    Row("MODULE.PARAMETER=", ".It Ar MODULE", (
        f"{_INIT}: boots_a_device_on_ext4",
        f"{_MODULES}: parameters_are_handed_over",
        f"{_MODULES}: too_many_parameters",
        "initrd/source/test_cmdline.py: parameters_of_modules",
    )),
    Row("modprobe.blacklist=", ".It Cm modprobe.blacklist=", (
        f"{_MODULES}: a_blacklist_is_for_devices_and_aliases",
        f"{_MODPROBE}: files_in_order_and_the_command_line_last",
    )),
    Row("/etc/modprobe.d of the initrd", "/etc/modprobe.d/*.conf", (
        f"{_INIT}: boots_a_device_on_ext4",
        f"{_MODPROBE}: options",
        f"{_MODULES}: a_command_in_place_of_a_module_is_not_run",
    )),
    Row("softdep", ".Ic softdep", (f"{_MODULES}: needed_ones_first_soft_ones_too",)),
    Row("words that the kernel does not know, and --", "words that the kernel does not know", (
        f"{_INIT}: boots_a_device_on_ext4",
        "initrd/handover/test_switch_root.py: init_gets_the_arguments_of_the_kernel",
    )),
    Row("root=/dev/NAME", "A path below", (f"{_INIT}: boots_with_little_memory",)),
    Row("root=UUID=", ".Cm UUID=", (f"{_INIT}: boots_a_device_on_ext4", f"{_NAMED}: each_form")),
    Row("root=LABEL=, PARTLABEL=", ".Cm LABEL=", (f"{_NAMED}: each_form", f"{_NAMED}: of_fat")),
    Row("root=MAJOR:MINOR, hex", ".Ar MAJOR :", (
        f"{_NAMED}: each_form",
        f"{_NAMED}: hex_is_the_kernels",
    )),
    Row("a name that two disks have", "Where two disks have that name", (
        f"{_KEXEC}: the_disk_that_was_booted_from_and_what_counts_after_kexec",
        f"{_NAMED}: of_two_the_one_on_the_booted_disk_counts",
        f"{_NAMED}: of_two_none_is_guessed",
    )),
    Row("root=PARTUUID=", ".Cm PARTUUID=", (
        f"{_INIT}: boots_a_partition_on_btrfs",
        f"{_DEVICES}: the_same_uuid_twice_is_refused",
    )),
    Row("root=PARTUUID= of a logical partition", ".Cm PARTUUID=", (
        f"{_INIT}: waits_for_a_root_device_that_appears_late",
        f"{_DEVICES}: a_logical_partition",
    )),
    Row("a btrfs over several devices", "devices of a btrfs that lies on several", (
        f"{_INIT}: boots_a_partition_on_btrfs",
        f"{_INIT}: boots_a_btrfs_over_two_disks",
        f"{_BTRFS}: one_that_is_missing",
        f"{_BTRFS}: more_than_there_can_be",
    )),
    Row("no root=", "Without\n.Cm root=", (
        f"{_DEVICES}: other_forms_are_refused_at_once",
        f"{_DISK}: no_root_is_discovered_where_that_is_allowed",
    )),
    Row("no root=, and the configuration allows it", ".Cm discover", (
        f"{_KEXEC}: the_disk_that_was_booted_from_and_what_counts_after_kexec",
        f"{_DISCOVER}: of_the_booted_disk_alone",
        f"{_DISCOVER}: two_of_that_type",
    )),
    Row("a second root=, rootfstype=, rootflags=, init=", "the first counts", (
        f"{_INIT}: boots_a_device_on_ext4",
        "initrd/programs/test_init.py: a_word_that_is_there_twice_is_told",
    )),
    Row("words for other initrds", "Words for other initrds are not obeyed", (
        f"{_INIT}: boots_a_device_on_ext4",
        "initrd/programs/test_init.py: words_for_other_initrds_are_told",
    )),
    Row("drivers of the processor", "", (
        f"{_INIT}: boots_a_device_on_ext4",
        f"{_MODULES}: drivers_of_the_processor_come_first",
    )),
    Row("kexec, kdump", ".Xr kexec 8", (
        f"{_KEXEC}: the_disk_that_was_booted_from_and_what_counts_after_kexec",
        "initrd/kernel/test_kexec.py: by_the_boot_protocol",
        "initrd/kernel/test_kexec.py: after_a_crash",
        "initrd/source/test_esp.py: what_an_earlier_boot_left_is_not_read",
    )),
)  # fmt: skip


def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_bytes())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.word)
def test_its_tests_exist(row: Row) -> None:
    assert row.tests
    for test in row.tests:
        file, name = test.split(": ")
        assert f"test_{name}" in functions(file), test


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.word)
def test_the_manual_says_it(row: Row) -> None:
    assert row.manual in MANUAL


def test_a_word_stands_there_once() -> None:
    words = [row.word for row in ROWS]
    assert len(set(words)) == len(words)
