# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a TPM 2.0 costs the boot helper: to measure the root, and to prove a UKI of 64 MiB. In
instructions of a guest with firmware (OVMF, swtpm). Only time of the processor counts: the TPM of
the test answers when it likes.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pyinit.host.uki.cpio import write_cpio
from tests.bench.guest import Cost
from tests.bench.measure import build_static
from tests.vm.bundle import bundle
from tests.vm.cases import Case, Results, cases_initrd
from tests.vm.disks import ESP_TYPE, ROOT_TYPE, esp, partitioned
from tests.vm.guest import BEGUN, COMMAND_LINE, Disk, Firmware, boot
from tests.vm.initrd import BOOT_MODULES, configuration, file_entry
from tests.vm.product import cfs_init
from tests.vm.rootdisk import CARRIED, make_rootdisk
from tests.vm.toolbox import Toolbox
from tests.vm.uki import BOOT_PATH, build_uki

OFF, MEASURE, UKI = "neither", "[measure] pcr = 15", '[digest] source = "uki", 64 MiB'
ROUNDS = {OFF: 9, MEASURE: 9, UKI: 3}
_SETTINGS: Mapping[str, Mapping[str, str | bool]] = {
    OFF: {"uki": "off"},
    MEASURE: {"uki": "off", "measure_pcr": "15", "measure_required": True},
    UKI: {"digest_source": "uki"},
}
_SIZE, _ESP_SIZE = 64 << 20, 128 << 20
_PROCESSOR = Path(__file__).with_name("processor.c")
_TRACE = "/usr/bin/strace -f -qq -o /tmp/trace"
_HELPER = "/usr/bin/cfs-setup-root --sysroot /sysroot --config"


def costs(work: Path) -> dict[str, Cost]:
    """By what is configured. `work`: an empty directory."""
    toolbox = Toolbox()
    root, kernel = make_rootdisk(toolbox), toolbox.kernel("stable")
    # Each has a name in the guest.
    scripts = {f"c{number}": _script(number, what) for number, what in enumerate(ROUNDS)}
    cases = [Case(name, script, limit=1200, leaks=True) for name, script in scripts.items()]
    initrd = cases_initrd(
        toolbox,
        kernel,
        cases,
        setup="mkdir -p /disk /sysroot && mount -t ext4 -o ro /dev/vdb1 /disk",
        modules=BOOT_MODULES,
        files={
            "usr/bin/cfs-setup-root": cfs_init(),
            "usr/bin/processor": build_static(_PROCESSOR.read_text(), work / "processor"),
            CARRIED: root.carried("whole"),
            **bundle("strace", "usr/bin/strace"),
            **{
                f"etc/{number}.conf": configuration(etc="none", var="none", **_SETTINGS[what])
                for number, what in enumerate(ROUNDS)
            },
        },
    )
    section, uki, image = work / "section", work / "uki.efi", work / "esp"
    section.write_bytes(root.carried("whole"))
    rest = os.urandom(_SIZE - len(initrd) - kernel.vmlinuz.stat().st_size)
    build_uki(
        toolbox, kernel, uki, initrd=initrd + write_cpio([file_entry("rest", rest)]),
        cmdline=f"{COMMAND_LINE} loglevel=4", sections={".cfsdig": section},
    )  # fmt: skip
    esp(toolbox, image, {BOOT_PATH: uki}, size=_ESP_SIZE)
    partitioned(toolbox, work / "booted", [(ESP_TYPE, "R", image)])
    partitioned(toolbox, work / "root", [(ROOT_TYPE, "R", root.disk("ext4"))])
    console = boot(
        toolbox,
        disks=[Disk(work / name, discard_writes=True) for name in ("booted", "root")],
        firmware=Firmware(tpm=work / "tpm"),
        memory=1024,
        icount=True,
        limit=3600,
        begun=BEGUN,
    )
    results = Results(console, cases)
    texts = (results.check(name).stdout for name in scripts)
    return dict(zip(ROUNDS, map(_read, texts), strict=True))


def _script(number: int, what: str) -> str:
    """The first one warms the page cache and is not counted."""
    before, command = "mount --bind /disk /sysroot", f"{_HELPER} /etc/{number}.conf"
    after = "umount -l /sysroot; umount -l /sysroot; rm -rf /run/cfs"
    return f"""
for i in $(seq 0 {ROUNDS[what]}); do
    {before}; count=$(processor {command} 2>/tmp/said) || {{ cat /tmp/said; exit 1; }}
    {after}; [ $i = 0 ] || echo instructions $count
done
{before}; {_TRACE} {command} 2>/tmp/said || exit
{after}; echo calls $(grep -c '(' /tmp/trace)
"""


def _read(text: str) -> Cost:
    cost = Cost()
    for line in text.splitlines():
        name, count = line.split()
        if name == "instructions":
            cost.instructions.append(int(count))
        else:
            cost.calls = int(count)
    return cost
