# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images that the running system mounts by name: named by the UKI and by the sealed root, and what
is refused. The running system is a chroot in the composed root; many cases to a boot."""

import pytest

from .app_disk import AppDisk, make_app_disk
from .cases import Case, LazyResults, Results
from .extension_disk import ABSENT, FORGED
from .product import refusal
from .rootdisk import CARRIED
from .setup_root_cases import run_setup_root
from .toolbox import Toolbox

SETTINGS = {"sealed": {}, "transient": {"root": "transient"}}
# What is in the running system lies in /run, since the root is sealed.
PRELUDE = """
cp /guest/carried /{carried}
cfs-setup-root --sysroot /disk --config /guest/configuration/{settings} 2>/dev/null || exit 99
mkdir -p /run/at /run/bin
cp /bin/busybox /run/bin/busybox && cp /usr/bin/cfs-setup-root /run/bin/cfs-mount
mount --bind /run /disk/run && mount -t proc proc /disk/proc || exit 99
inside() {{ chroot /disk /run/bin/busybox sh -c "PATH=/run/bin; b=busybox; $1"; }}
"""
AT_END = """
code=$?
for place in run/at usr/lib/cfs/images.d usr run proc etc/extensions etc var sysroot; do
    ! cut -d' ' -f5 /proc/self/mountinfo | grep -qx /disk/$place || umount /disk/$place
done
umount /disk
rm -rf /run/at /run/bin /run/over /run/cfs
exit $code
"""
NAMED = {
    "tool": "one", "both": "one", "differs": "one", "broken": "one", "missing": ABSENT,
    "wrong": FORGED,
}  # fmt: skip
_LISTS = "/usr/lib/cfs/images.d"
_STORE = "/sysroot/composefs"
_OBJECT = f"{_STORE}/objects/{ABSENT[:2]}/{ABSENT[2:]}"
_NOTHING = "; code=$?; $b grep -c ' /run/at ' /proc/self/mountinfo; exit $code"
_SHOWS = " && $b grep ' /run/at ' /proc/self/mountinfo && $b head -n 1 /run/at/bin/*"
_ANY = "sha256:[0-9a-f]{64}"


def _case(
    name: str, script: str, *, code: int = 0, stdout: str = "", stderr: str | None = None,
    settings: str = "sealed",
) -> Case:  # fmt: skip
    """`script`: in the running system."""
    prelude = PRELUDE.format(carried=CARRIED, settings=settings)
    escaped = script.replace("'", "'\\''")
    return Case(
        name,
        f"{prelude}inside '{escaped}'{AT_END}",
        limit=60,
        code=code,
        stdout=stdout,
        stderr=stderr,
    )


def _good(name: str, what: str, image: str, *, before: str = "", settings: str = "sealed") -> Case:
    return _case(
        name, f"{before}cfs-mount {what} /run/at{_SHOWS}", settings=settings,
        stdout=r" /run/at ro,nosuid,nodev,.* - overlay composefs:[0-9a-f]{64} .*verity=require.*\n"
        rf"{image}\n\Z",
    )  # fmt: skip


def _bad(
    name: str, what: str, step: str, path: str, found: str, expected: str = "", *,
    before: str = "", settings: str = "sealed",
) -> Case:  # fmt: skip
    return _case(
        name, f"{before}cfs-mount {what} /run/at{_NOTHING}", settings=settings,
        code=32, stdout=r"^0\n\Z", stderr=refusal(step, path, found, expected),
    )  # fmt: skip


def _unknown(name: str) -> tuple[str, str, str, str]:
    found = f"neither in /run/cfs/apps nor {_LISTS}/{name}.conf in the sealed root"
    return "source", name, found, "an image that the UKI or the root names"


def _write(directory: str) -> str:
    """A list that names the image "one", in a directory of its own."""
    return (
        f"$b mkdir -p {directory} && $b cp {_LISTS}/listed.conf {directory}/evil.conf || exit 98; "
    )


_BIND = _write("/run/over") + f"$b mount --bind /run/over {_LISTS} || exit 98; "
_OVER_USR = (
    _write("/run/over/lib/cfs/images.d")
    + "$b mount -t overlay over /usr -o lowerdir=/run/over:/usr || exit 98; "
    f"$b test -e {_LISTS}/evil.conf || exit 98; "
)
CASES = (
    _case("list", "$b cat /run/cfs/apps", stdout=r"\Acfsapp1\nboth=fsverity-sha256-12:[0-9a-f]+$"),
    _case("record", "$b cat /run/cfs/root.json", stdout=r'"apps": {"both": "sha256:.*"tool": "sh'),
    _good("by-uki", "--name tool", "one"),
    _good("by-root", "--name listed", "one"),
    _good("by-both", "--name both", "one"),
    _good("by-root-with-a-store", "--name placed", "two"),
    _good("with-a-store", f"--name misplaced --object-store {_STORE}", "two"),
    _good("list-under-a-bind", "--name listed", "one", before=_BIND),
    _good("list-under-an-overlay", "--name listed", "one", before=_OVER_USR),
    _good(
        "transient-root-may-list", "--name evil", "one", before=_write(_LISTS),
        settings="transient",
    ),
    _case(
        "again", "cfs-mount --name tool /run/at && cfs-mount --name tool -v /run/at",
        stderr="is mounted on /run/at already",
    ),
    _bad("unknown", "--name other", *_unknown("other")),
    _bad("in-etc", "--name evil", *_unknown("evil"), before=_write("/etc/cfs/images.d")),
    _bad("by-a-bind", "--name evil", *_unknown("evil"), before=_BIND),
    _bad("by-an-overlay", "--name evil", *_unknown("evil"), before=_OVER_USR),
    _bad(
        "differs", "--name differs", "source", f"{_LISTS}/differs.conf", _ANY,
        f"{_ANY}, as the UKI has it",
    ),
    _bad(
        "broken", "--name broken", "source", f"{_LISTS}/broken.conf", "unknown key .verity.",
        "digest, store or users",
    ),
    _bad(
        "link", "--name link", "source", f"{_LISTS}/link.conf",
        r"Too many levels of symbolic links \(ELOOP\)",
        "a regular file of the sealed root, and no link",
    ),
    _bad(
        "no-store", "--name misplaced", "store", "/nowhere",
        r"No such file or directory \(ENOENT\)", "an object store",
    ),
    *(
        _bad(
            f"absent-{name}", f"--name {name}", "open", _OBJECT,
            r"No such file or directory \(ENOENT\)", f"image sha256:{ABSENT}",
        )
        for name in ("absent", "missing")
    ),
    *(
        _bad(
            f"forged-{name}", f"--name {name}", "measure", f"{_STORE}/images/{FORGED}", _ANY,
            f"sha256:{FORGED}",
        )
        for name in ("forged", "wrong")
    ),
)  # fmt: skip


def _run(toolbox: Toolbox, made: AppDisk, role: str) -> Results:
    files = {"guest/carried": made.carried(**NAMED)}
    return run_setup_root(toolbox, role, made, CASES, SETTINGS, files)


@pytest.fixture(scope="session")
def app_disk(toolbox: Toolbox) -> AppDisk:
    return make_app_disk(toolbox)


@pytest.fixture(scope="session")
def on_stable(toolbox: Toolbox, app_disk: AppDisk) -> LazyResults:
    return LazyResults(lambda: _run(toolbox, app_disk, "stable"))


@pytest.fixture(scope="session")
def on_newest(toolbox: Toolbox, app_disk: AppDisk) -> LazyResults:
    return LazyResults(lambda: _run(toolbox, app_disk, "newest"))


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_on_stable(on_stable: LazyResults, name: str) -> None:
    on_stable.check(name)


@pytest.mark.all_only
@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_on_newest(on_newest: LazyResults, name: str) -> None:
    on_newest.check(name)
