# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`systemctl soft-reboot` in every mode: into the image that runs, bare, and into another image.

One boot for each mode. The roots come up "running", and at the end no unit fails to stop.
"""

import os
import re
from pathlib import Path

import pytest

from . import dracut
from .guest import Disk, boot
from .initrd import BOOT_MODULES, CONFIG, boot_initrd, configuration
from .product import cfs_init
from .rootdisk import CARRIED
from .systemd_root import SystemdRoot, make_systemd_root, script_disk
from .toolbox import Toolbox

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root"),
    pytest.mark.all_only,
]

LIMIT = 900
APPEND = "root=/dev/vda rw systemd.gpt_auto=0"
UNIT = "cfs-soft-reboot.service"
# Sourced by each root in turn. What one writes is what the next one finds.
SCRIPT = f"""
phase=$(cat /run/phase 2>/dev/null || echo 0)
echo $((phase + 1)) >/run/phase
echo "phase: $phase"
echo "state: $(systemctl is-system-running --wait)"
systemctl list-units --failed --plain --no-legend | sed 's/^/failed: /'
echo "hostname: $(cat /etc/hostname)"
for place in / /etc /var /sysroot; do
    echo "on $place: $(findmnt -n -o SOURCE --mountpoint $place)"
done
echo "source: $(grep -o '"source": "[^"]*"' /run/cfs/root.json)"
for place in etc var; do
    if [ -e /$place/probe ]; then echo "$place: $(cat /$place/probe)"; else echo "$place: none"; fi
    echo $phase 2>/dev/null >/$place/probe
done
next() {{
    systemd-run -q --wait -p Type=oneshot /run/test/cfs-init cfs-setup-root --soft-reboot $1
    echo "prepared: $?"
}}
units=/run/systemd/system
mkdir -p $units/soft-reboot.target.wants
cp /run/test/{UNIT} $units
ln -sf ../{UNIT} $units/soft-reboot.target.wants
systemctl daemon-reload
case $phase in
0) next FIRST ;;
2) next SECOND ;;
3) return ;;
esac
systemctl soft-reboot
sleep infinity
"""
MODES: dict[str, dict[str, str]] = {
    "in-memory": {},
    "kept": {"etc": "overlay", "var": "bind"},
    "kept-otherwise": {"etc": "bind", "var": "overlay"},
    "transient-root": {"root": "transient", "etc": "overlay", "var": "transient-disk"},
    "transient-root-alone": {"root": "transient", "etc": "none", "var": "none"},
}
# What each root finds there of what the one before has written: after the same image, after a bare
# soft reboot, after another image.
MEMORY, DISK = ("none", "1", "none"), ("0", "1", "none")
FOUND: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "in-memory": (MEMORY, MEMORY),
    "kept": (DISK, DISK),
    "kept-otherwise": (DISK, DISK),
    "transient-root": (DISK, DISK),
    "transient-root-alone": (MEMORY, MEMORY),
}


@pytest.fixture(scope="module")
def root(toolbox: Toolbox) -> SystemdRoot:
    return make_systemd_root(toolbox)


@pytest.mark.parametrize("role", ["stable", "newest"])
@pytest.mark.parametrize("mode", MODES)
def test_it_comes_up_again_and_again(
    toolbox: Toolbox, root: SystemdRoot, tmp_path: Path, mode: str, role: str
) -> None:
    kernel = toolbox.kernel(role)
    script = SCRIPT.replace("FIRST", root.first.digest).replace("SECOND", root.second.digest)
    archive = script_disk(
        tmp_path / "script.tar", script, {"cfs-init": cfs_init(), UNIT: dracut.MODULE / UNIT}
    )
    settings = MODES[mode]
    initrd = boot_initrd(
        kernel, cfs_init(), modules=BOOT_MODULES,
        files={CONFIG: configuration(**settings), CARRIED: root.carried(root.first)},
    )  # fmt: skip
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=initrd, append=APPEND, memory=1024, limit=LIMIT,
        disks=[Disk(root.disk, discard_writes=True), Disk(archive, read_only=True)],
        log=tmp_path / "console.log",
    )  # fmt: skip
    assert not console.timed_out, console.tail
    phases = console.results.decode(errors="replace").split("phase: ")[1:]
    assert len(phases) == 4, phases
    said = [dict(re.findall(r"^([a-z/ ]+): ?(.*)$", text, re.MULTILINE)) for text in phases]
    images = [root.first.digest] * 3 + [root.second.digest]
    for number, (one, digest) in enumerate(zip(said, images, strict=True)):
        assert (one["state"], one.get("failed")) == ("running", None), phases[number]
        assert one["on /"] == f"composefs:{digest}"
        assert one["hostname"] == ("second" if number == 3 else "first")
        assert bool(one["on /var"]) == (settings.get("var") != "none")
        assert one["on /sysroot"].startswith("/dev/vda")
        assert ("soft-reboot" in one["source"]) == (number > 0)
    assert [one["prepared"] for one in (said[0], said[2])] == ["0", "0"]
    for place, found in zip(("etc", "var"), FOUND[mode], strict=True):
        assert tuple(one[place] for one in said[1:]) == found, place
    # systemd's word for a unit that did not stop, at each of the four ends
    assert "[FAILED]" not in console.text, console.tail
