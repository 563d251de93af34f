# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Superblocks. The first 2304 bytes stand at the start of the device, the rest at 64 KiB."""

from pyinit.initrd.machine import superblock

START, LATER = 2304, 0x10000


def check(data: bytes) -> None:
    device = data[:START]
    if len(data) > START:
        device = device.ljust(LATER, b"\0") + data[START:]
    found = superblock.read(device[: superblock.NEEDED])
    kinds = [block.fstype for block in found]
    assert len(set(kinds)) == len(kinds) or kinds.count("vfat") == 2
    for block in found:
        assert len(block.label) <= 512
        assert "\0" not in block.label
        sizes = [len(group) for group in block.uuid.split("-")]
        assert sizes in ([0], [4, 4], [8, 4, 4, 4, 12])
        assert block.uuid == block.uuid.lower()
        numbers = (block.devices, block.devid)
        if block.fstype == "btrfs":
            places = (LATER + 0x88, LATER + 0xC9)
            assert numbers == tuple(int.from_bytes(device[at : at + 8], "little") for at in places)
        else:
            assert numbers == (0, 0)
