# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Cases that other tests prove, and those that have to wait; and other machines."""

from .rows import Elsewhere

# One column for arm64: what decides is the same C and Python, and each kernel's differences are
# seen on x86-64. mount.composefs is put to no emulated processor.
MACHINES = ("aarch64/stable/ext4",)

_INIT = "tests/vm/test_init.py::"
_EXTENSIONS = (
    "tests/vm/test_extensions.py::test_on_stable",
    "tests/vm/test_extensions.py::test_on_newest",
    "tests/initrd/root/test_extension.py",
)
_SECOND = "tests/vm/test_second_initrd.py::"
_FAILURE = "tests/vm/test_init_failures.py::test_failure"
ELSEWHERE = (
    Elsewhere(
        5,
        "digest equal, algorithm not",
        ("tests/core/parse/test_digest.py::test_equal_is_algorithm_and_bytes",),
        "nobody can make such a file",
    ),
    Elsewhere(
        7,
        "digest with NUL",
        ("tests/core/parse/test_digest.py::test_refused",),
        "no argument has one",
    ),
    Elsewhere(
        7,
        "before the disk is touched",
        ("tests/vm/test_mount.py::test_a_malformed_digest_is_refused_before_any_disk_access",),
    ),
    Elsewhere(
        14,
        "image replaced between measuring and mounting",
        (
            "tests/vm/test_races.py::test_what_was_measured_is_what_is_mounted",
            "tests/vm/test_races.py::test_the_image_swapped_in_a_loop",
        ),
    ),
    Elsewhere(
        25,
        "redirect without metacopy: the lister has it too",
        ("tests/host/store/test_image_mkcomposefs.py::test_what_mkcomposefs_makes_of_each_kind",),
        "the kernel refuses the file, and its object stays",
    ),
    Elsewhere(
        21,
        "the object lister refuses climbing redirects",
        ("tests/host/store/test_image_rules.py::test_a_broken_rule",),
    ),
    Elsewhere(
        26,
        "object directory swapped after it was opened",
        (
            "tests/vm/test_races.py::test_the_first_object_directory_stays_in_use",
            "tests/vm/test_races.py::test_the_objects_swapped_in_a_loop",
        ),
    ),
    Elsewhere(
        30,
        "UKI without the section, with it twice, overlapping",
        (
            "tests/core/parse/test_pe.py::test_no_name",
            "tests/core/parse/test_pe.py::test_twice",
            "tests/core/parse/test_pe.py::test_a_broken_rule",
        ),
    ),
    Elsewhere(
        31,
        "every PE rule broken, one at a time",
        (
            "tests/core/parse/test_pe.py::test_a_broken_rule",
            "tests/core/parse/test_pe.py::test_every_rule_has_a_case",
            "tests/core/system/test_pe_file.py::test_a_uki_of_128_mb_costs_little",
        ),
    ),
    Elsewhere(
        32,
        "UKI differs from the one that booted",
        (
            "tests/initrd/source/test_decide.py::test_the_uki_never_decides",
            "tests/initrd/source/test_decide.py::test_all_combinations",
            "tests/initrd/source/test_esp.py::test_a_broken_file_is_refused",
        ),
    ),
    Elsewhere(
        32,
        "and is not `proved`",
        (
            "tests/initrd/source/test_proof.py::test_a_file_that_did_not_run",
            "tests/vm/test_proof.py",
        ),
    ),
    Elsewhere(
        34,
        "command line as the kernel cuts it",
        (
            "tests/initrd/source/test_cmdline.py::test_cut_as_the_kernel_does",
            "tests/initrd/source/test_cmdline.py::test_any_bytes",
            "tests/vm/test_cmdline.py",
        ),
    ),
    Elsewhere(35, "EFI variables", ("tests/initrd/source/test_efivar.py",)),
    Elsewhere(
        36,
        "event log",
        (
            "tests/core/parse/test_eventlog.py",
            "tests/initrd/source/test_proof.py::test_a_log_that_is_cut_or_not_there",
        ),
    ),
    Elsewhere(37, "hostile upper of /etc or /var", ("tests/vm/test_state.py",)),
    Elsewhere(38, "state directory missing or a symlink", ("tests/vm/test_state.py",)),
    Elsewhere(39, "upper directory in use", ("tests/vm/test_state.py",)),
    Elsewhere(40, "mount points of PID 1", (_FAILURE,)),
    Elsewhere(
        42,
        "exception as PID 1",
        (
            f"{_INIT}test_an_uncaught_exception_is_reported_and_the_machine_powers_off",
            _FAILURE,
        ),
    ),
    Elsewhere(
        43,
        "ENOSPC and the like at the Nth call",
        (
            "tests/vm/faults/test_faults.py::test_a_call_that_fails_is_named_and_leaves_nothing",
            "tests/vm/faults/test_faults.py::test_memory_that_runs_out_leaves_nothing",
            "tests/host/uki/test_seal_faults.py::test_a_failing_call_leaves_the_old_output",
        ),
    ),
    Elsewhere(
        45,
        "power cut while the store is written",
        (
            "tests/host/store/test_add_faults.py",
            "tests/host/store/test_gc_killed.py",
        ),
        "killed at each call; the power itself is cut in no guest",
    ),
    Elsewhere(
        46,
        "root device late or missing",
        (
            f"{_INIT}test_a_missing_root_device_is_named_and_the_machine_reboots",
            f"{_INIT}test_waits_for_a_root_device_that_appears_late",
            "tests/initrd/machine/test_devices.py::test_waits_and_loads_drivers_meanwhile",
        ),
    ),
    Elsewhere(47, "switch-root outside an initramfs", (_FAILURE,)),
    Elsewhere(60, "an extension that is absent, wrong, hollow or of another release", _EXTENSIONS),
    Elsewhere(61, "an extension's place is taken, or there is no level of stacking", _EXTENSIONS),
    Elsewhere(
        62,
        "section and carried file name other extensions",
        ("tests/initrd/source/test_decide.py::test_copies_that_name_other_extensions_disagree",),
    ),
    Elsewhere(
        63,
        "a second initrd that is absent, forged, without /init, or asks nobody",
        (f"{_SECOND}test_refused", f"{_SECOND}test_one_that_is_none"),
    ),
    Elsewhere(
        64,
        "a hand-over that somebody else has left, or in another initrd",
        (f"{_SECOND}test_refused", "tests/initrd/source/test_handed_over.py"),
    ),
    Elsewhere(
        65,
        "an image by a name that no list has, or by a list over the root and not in it",
        ("tests/vm/test_apps.py", "tests/initrd/handover/test_named_images.py"),
    ),
    Elsewhere(
        66,
        "an image in the initrd: another one, cut, not to be sealed, or without a loop device",
        ("tests/vm/test_embedded.py", "tests/initrd/root/test_embedded.py"),
    ),
    Elsewhere(
        67,
        "an object in the initrd that is not what its name says",
        ("tests/initrd/root/test_memory_store.py",),
        "nobody but who builds the UKI writes there",
    ),
)
