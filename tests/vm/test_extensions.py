# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Extensions that the UKI names: composed beside a root and refused, many cases to a boot; and
merged by systemd in a real root, in each mode of /etc."""

import os
from pathlib import Path

import pytest

from . import dracut
from .cases import Case, LazyResults, Results
from .extension_disk import ABSENT, FORGED, ExtensionDisk, make_extension_disk
from .guest import Console, Disk, boot
from .product import refusal
from .rootdisk import CARRIED
from .setup_root_cases import run_setup_root
from .systemd_root import VOLATILE, SystemdRoot, boot_root, make_systemd_root, script_disk
from .toolbox import Toolbox

# What is mounted in a case is the case's: also what is refused must have left nothing.
PRELUDE = """
cp /guest/carried/{name} /{carried}
up() {{ cfs-setup-root --sysroot /disk --config /guest/configuration/{settings}; }}
"""
AT_END = """
code=$?
for place in /run/extensions/* /run/confexts/*; do umount $place 2>/dev/null; done
rm -r /run/extensions /run/confexts 2>/dev/null
for name in etc/extensions etc var/lib/extensions var sysroot; do
    ! cut -d' ' -f5 /proc/self/mountinfo | grep -qx /disk/$name || umount /disk/$name
done
! grep -q ' /disk .* - overlay composefs:' /proc/self/mountinfo || umount /disk
exit $code
"""
SETTINGS = {
    "strict": {}, "skip": {"extensions_missing": "skip"}, "overlay": {"etc": "overlay"},
    **{
        name: {
            "etc": "bind", "state_etc": f"/state/{name}/etc",
            "var": "bind", "state_var": f"/state/{name}/var",
        }
        for name in ("planted", "linked")
    },
}  # fmt: skip
ALL = {"sysext_debug": "debug", "confext_site": "site"}
NAMED: dict[str, dict[str, str]] = {
    "all": ALL,
    "absent": {**ALL, "sysext_x": ABSENT},
    "forged": {**ALL, "sysext_x": FORGED},
    "old": {**ALL, "sysext_old": "old"},
    "silent": {**ALL, "sysext_silent": "silent"},
    "another-name": {"sysext_other": "debug"},
    "another-kind": {"confext_debug": "debug"},
    "hollow": {**ALL, "sysext_hollow": "hollow"},
}
NOTHING_LEFT = r"mountinfo=0$"
AFTER = "; code=$?; echo mountinfo=$(grep -c composefs: /proc/self/mountinfo); (exit $code)"


def _case(
    name: str, script: str, *, settings: str = "strict", named: str = "", code: int = 0,
    stdout: str | None = None, stderr: str | None = None,
) -> Case:  # fmt: skip
    prelude = PRELUDE.format(name=named or name, carried=CARRIED, settings=settings)
    return Case(name, prelude + script + AT_END, limit=60, code=code, stdout=stdout, stderr=stderr)


def _bad(
    name: str, step: str, path: str, found: str, expected: str, *, settings: str = "strict",
    named: str = "", before: str = "",
) -> Case:  # fmt: skip
    return _case(
        name, before + "up" + AFTER, settings=settings, named=named, code=32, stdout=NOTHING_LEFT,
        stderr=refusal(step, path, found, expected, program="cfs-setup-root"),
    )  # fmt: skip


_IMAGES = "/disk/composefs/images"
_ABSENT = f"/disk/composefs/objects/{ABSENT[:2]}/{ABSENT[2:]}"
_SYSEXT = "/usr/lib/extension-release.d/extension-release."
_NO_FILE = r"No such file or directory \(ENOENT\)"
_OF_ROOT = "of this root"
_RECORD = (
    r'"extensions": {"confext.site": {"digest": "sha256:[0-9a-f]{64}", "image": "/composefs/images/'
    r'[0-9a-f]{64}", "mounted": "/run/confexts/site", "loop": (true|false), "canary": "etc/site", '
    r'"measured": null}, "sysext.debug": {.*"canary": "usr/bin/debug", "measured": null}}'
)
CASES = (
    _case("all", "up && cat /run/cfs/root.json", stdout=_RECORD),
    _case(
        "content",
        "up && head -n 1 /run/confexts/site/etc/site && "
        "tail -n 1 /run/extensions/debug/usr/bin/debug && ls /disk/usr/bin",
        named="all", code=1, stdout=r"\Asite\nas long as it takes .*\n\Z", stderr="/disk/usr/bin",
    ),
    _case(
        "options",
        "up && grep -E ' /run/(extensions|confexts)/' /proc/self/mountinfo; "
        "touch /run/extensions/debug/usr/x /run/confexts/site/etc/x",
        named="all", code=1,
        stdout=r"/run/confexts/site ro,nosuid,nodev,.* - overlay composefs:.*verity=require(.|\n)*"
        r"/run/extensions/debug ro,nosuid,nodev,.* - overlay composefs:.*verity=require",
        stderr="Read-only file system(.|\n)*Read-only file system",
    ),
    _case(
        "units",
        "up && cat /run/systemd/system/run-extensions-debug.mount.d/cfs.conf",
        named="all", stdout="DefaultDependencies=no",
    ),
    _bad(
        "absent", "open", _ABSENT, _NO_FILE,
        f"image sha256:{ABSENT}, which is sysext.x in the UKI",
    ),
    _case(
        "absent-is-skipped", "up && ls /run/extensions && cat /run/cfs/root.json",
        settings="skip", named="absent",
        stdout=rf'debug\n.*"sysext.x": {{"digest": "sha256:{ABSENT}"}}',
        stderr=f"warning: sysext.x is left out: {_ABSENT}: {_NO_FILE}",
    ),
    _bad("forged", "measure", f"{_IMAGES}/{FORGED}", "sha256:[0-9a-f]{64}", f"sha256:{FORGED}"),
    _bad(
        "forged-is-not-skipped", "measure", f"{_IMAGES}/{FORGED}", "sha256:[0-9a-f]{64}",
        f"sha256:{FORGED}", settings="skip", named="forged",
    ),
    _bad(
        "old", "check", f"{_IMAGES}/[0-9a-f]{{64}}: {_SYSEXT}old",
        "VERSION_ID=12, and the root has VERSION_ID=13", f"sysext.old {_OF_ROOT}",
    ),
    _bad(
        "silent", "check", f"{_IMAGES}/[0-9a-f]{{64}}: {_SYSEXT}silent", "no such file",
        "what it is an extension of",
    ),
    _bad(
        "another-name", "check", f"{_IMAGES}/[0-9a-f]{{64}}: {_SYSEXT}other", "no such file",
        "what it is an extension of",
    ),
    _bad(
        "another-kind", "check",
        f"{_IMAGES}/[0-9a-f]{{64}}: /etc/extension-release.d/extension-release.debug",
        "no such file", "what it is an extension of",
    ),
    _bad("hollow", "check", "/disk/usr/bin/hollow", f".*{_NO_FILE}.*", "readable to its end"),
    _bad(
        "taken", "attach", "/run/extensions/debug", "something is mounted there already",
        "nothing: sysext.debug of the UKI is mounted here; unmount it", named="all",
        before="mkdir -p /run/extensions/debug && mount -t tmpfs taken /run/extensions/debug && ",
    ),
    _bad(
        "place-is-a-file", "attach", "/run/extensions/debug", r"Not a directory \(ENOTDIR\)",
        "a directory to mount on", named="all",
        before="mkdir -p /run/extensions && touch /run/extensions/debug && ",
    ),
)  # fmt: skip
# Who writes the disk puts extensions of their own there.
PLANTED = (
    _case(
        "planted",
        "for place in var/lib etc; do mkdir -p /disk/state/planted/$place/extensions/evil; done; "
        "up && ls -A /disk/var/lib/extensions /disk/etc/extensions && cat /run/cfs/root.json; "
        "ls /disk/var/lib/extensions/evil",
        settings="planted", named="all", code=1,
        stdout=r"\A/disk/etc/extensions:\n\n/disk/var/lib/extensions:\n{",
        stderr=r"warning: /etc/extensions is hidden: the UKI names the extensions\n"
        r"warning: /var/lib/extensions is hidden(.|\n)*evil: No such file",
    ),
    _bad(
        "linked", "state", "/var/lib/extensions", r"Not a directory \(ENOTDIR\)",
        "no such directory: the UKI names the extensions", settings="linked", named="all",
        before="mkdir -p /disk/state/linked/etc /disk/state/linked/var/lib && "
        "ln -s ../evil /disk/state/linked/var/lib/extensions && ",
    ),
)  # fmt: skip
# Linux 6.12 takes no data-only layers together with what the disk's upper layer must not do.
ON_STABLE = (
    *CASES,
    *PLANTED,
    _bad(
        "etc-overlay", "overlay", "/run/confexts/site", "no overlay can be stacked above /etc",
        "a place for systemd-confext", settings="overlay", named="all",
    ),
)  # fmt: skip
ON_NEWEST = (*CASES, *PLANTED, _case("etc-overlay", "up", settings="overlay", named="all"))


def _run(toolbox: Toolbox, made: ExtensionDisk, role: str, cases: tuple[Case, ...]) -> Results:
    files = {f"guest/carried/{name}": made.carried(**named) for name, named in NAMED.items()}
    return run_setup_root(toolbox, role, made, cases, SETTINGS, files)


@pytest.fixture(scope="session")
def extension_disk(toolbox: Toolbox) -> ExtensionDisk:
    return make_extension_disk(toolbox)


@pytest.fixture(scope="session")
def on_stable(toolbox: Toolbox, extension_disk: ExtensionDisk) -> LazyResults:
    return LazyResults(lambda: _run(toolbox, extension_disk, "stable", ON_STABLE))


@pytest.fixture(scope="session")
def on_newest(toolbox: Toolbox, extension_disk: ExtensionDisk) -> LazyResults:
    return LazyResults(lambda: _run(toolbox, extension_disk, "newest", ON_NEWEST))


@pytest.mark.parametrize("name", [case.name for case in ON_STABLE])
def test_on_stable(on_stable: LazyResults, name: str) -> None:
    on_stable.check(name)


@pytest.mark.all_only
@pytest.mark.parametrize("name", [case.name for case in ON_NEWEST])
def test_on_newest(on_newest: LazyResults, name: str) -> None:
    on_newest.check(name)


# ---- systemd merges them

LIMIT = 480
APPEND = (
    "root=/dev/vda rw systemd.gpt_auto=0 systemd.wants=systemd-sysext.service "
    "systemd.wants=systemd-confext.service"
)
SCRIPT = """
echo "state: $(systemctl is-system-running --wait)"
echo "services: $(systemctl is-active systemd-sysext systemd-confext | tr '\\n' ' ')"
echo "sysext: $(cat /usr/bin/debug | wc -l) $(ls /usr/bin/sh)"
echo "confext: $(head -n 1 /etc/site) $(cat /etc/hostname)"
echo "writes: $(touch /usr/bin/x /run/extensions/debug/x 2>&1 | grep -c Read-only)"
"""
MERGED = SCRIPT + VOLATILE
MODES: dict[str, dict[str, str]] = {
    "in-memory": {},
    "overlay": {"etc": "overlay", "var": "overlay"},
    "bind": {"etc": "bind", "var": "bind"},
    "none": {"etc": "none", "var": "none", "root": "transient"},
}
_LATER = pytest.mark.all_only
MERGES = [
    pytest.param(role, mode, marks=[] if (role, mode) == ("newest", "overlay") else _LATER)
    for role in ("stable", "newest")
    for mode in MODES
]


@pytest.fixture(scope="module")
def root(toolbox: Toolbox) -> SystemdRoot:
    return make_systemd_root(toolbox)


@pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root")
@pytest.mark.parametrize(("role", "mode"), MERGES)
def test_systemd_merges_them(
    toolbox: Toolbox, root: SystemdRoot, tmp_path: Path, role: str, mode: str
) -> None:
    settings = MODES[mode]
    # There is no place for a confext then, and that is refused: "etc-overlay" above.
    full = role == "stable" and settings.get("etc") == "overlay"
    named = {"sysext_debug": "debug"} | ({} if full else {"confext_site": "site"})
    console = boot_root(
        toolbox, root, tmp_path, role, MERGED, settings=settings,
        carried=root.carried(root.first, **named), append=APPEND, limit=LIMIT,
    )  # fmt: skip
    check_merged(console, full)


def check_merged(console: Console, full: bool = False, times: int = 1) -> None:
    """Both are merged, each time that the system came up. `full`: there is no confext."""
    assert not console.timed_out, console.tail
    lines = [line.rstrip() for line in console.results.decode(errors="replace").splitlines()]
    for line in (
        "state: running",
        f"services: active {'inactive' if full else 'active'}",
        "sysext: 100 /usr/bin/sh",
        *([] if full else ["confext: site first"]),
        "writes: 2",
        "volatile: 0 written",
    ):
        assert lines.count(line) == times, lines


# systemd stays the same and comes up again in the same root.
TWICE = (
    MERGED
    + """
[ -e /run/again ] && return
touch /run/again
systemctl soft-reboot
sleep infinity
"""
)


@pytest.mark.all_only
@pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root")
@pytest.mark.parametrize("etc", ["transient", "bind"])
def test_by_an_initrd_with_systemd(
    toolbox: Toolbox, root: SystemdRoot, tmp_path: Path, etc: str
) -> None:
    """What lies below /run goes with it into the root, and stays for a soft reboot of that."""
    files: dict[str, bytes | str] = {
        dracut.TOML: f'[etc]\nmount = "{etc}"\n[var]\nmount = "{etc}"\n',
        dracut.CARRIED: root.carried(root.first, sysext_debug="debug", confext_site="site"),
    }
    kernel = toolbox.kernel("stable")
    made = dracut.initrd(dracut.STABLE, kernel, files, add=("cfs",))
    archive = script_disk(tmp_path / "script.tar", TWICE)
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=made.data, append=APPEND, memory=1024, limit=LIMIT,
        disks=[Disk(root.disk, discard_writes=True), Disk(archive, read_only=True)],
        log=tmp_path / "console.log",
    )  # fmt: skip
    assert "cfs-setup-root.service" in console.text
    check_merged(console, times=2)
