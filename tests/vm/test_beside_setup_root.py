# SPDX-License-Identifier: Apache-2.0 OR MIT
"""composefs-setup-root, built by cargo, and ours do the same boot of a disk of bootc: what becomes
of it, case by case. The table stands in docs/howto/bootc.md."""

from dataclasses import dataclass

import pytest

from pyinit.host.config import setup_root_conf
from pyinit.initrd.source import config

from . import peer
from .bundle import bundle
from .cases import Case, Results, run_cases
from .guest import Disk
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .once import REPOSITORY
from .product import cfs_init
from .state.bootc import SHA256, SHA512
from .state.disk import make_disk
from .store import Store
from .toolbox import Toolbox

pytestmark = [
    pytest.mark.all_only,
    pytest.mark.skipif(peer.cargo() is None, reason="no cargo, which builds the other program"),
]

PAGE = REPOSITORY / "docs/howto/bootc.md"
TOML = b"""[profile]
name = "bootc"
[etc]
mount = "bind"
[var]
mount = "bind"
"""
MISSING = "0" * 128


@dataclass(frozen=True)
class Row:
    """What is prepared, in the directory of the disk, and how that is undone. `also`: what is
    looked at in /disk once it boots; it prints what the outcome has more."""

    title: str
    line: str = "composefs=$B"
    prepare: str = ":"
    undo: str = ":"
    also: str = ":"


def _object(action: str) -> tuple[str, str]:
    """Of the object that /usr/bin/program has."""
    find = "O=$(grep -rl '^# padding' composefs/objects | head -n 1); mv $O kept"
    return f"{find}; {action}", "rm -f $O; mv kept $O"


def _row(title: str, both: tuple[str, str], **more: str) -> Row:
    return Row(title, prepare=both[0], undo=both[1], **more)


_SEEN = '[ ! -e /disk/{0}/cfs-init ] || echo "; /{0} is a directory of the initrd"'
ROWS = {
    "sha512": Row("SHA-512"),
    "sha256": Row(
        "SHA-256, by `composefs.digest=`",
        line="composefs composefs.digest=v1-sha256-12:$B",
        prepare=f"mv {SHA512} kept; mv {SHA256} {SHA512}; B=$SHA256",
        undo=f"mv {SHA512} {SHA256}; mv kept {SHA512}",
    ),
    "no-digest": Row("no digest on the command line", line="quiet"),
    "no-image": Row("no image of that name", line=f"composefs={MISSING}"),
    "two": Row(
        "two digests, the first without an image; nobody knows the UKI's own command line",
        line=f"composefs={MISSING} composefs=$B",
    ),
    "wrong-image": Row(
        "the image has another digest than its name",
        line=f"composefs={MISSING}",
        prepare=f"ln -s $(readlink composefs/images/$B) composefs/images/{MISSING}; "
        f"cp -a state/deploy/$B state/deploy/{MISSING}",
        undo=f"rm -r composefs/images/{MISSING} state/deploy/{MISSING}",
    ),
    "open-image": Row(
        "the image has no fs-verity",
        prepare="I=composefs/images/$(readlink composefs/images/$B); mv $I kept; cp kept $I",
        undo="rm $I; mv kept $I",
    ),
    "unchecked": Row("`?` before the digest", line="composefs=?$B"),
    "unchecked-open": Row(
        "`?` before the digest, and the image has no fs-verity",
        line="composefs=?$B",
        prepare="I=composefs/images/$(readlink composefs/images/$B); mv $I kept; cp kept $I",
        undo="rm $I; mv kept $I",
    ),
    "no-object": _row("an object is missing", _object(":")),
    "other-object": _row(
        "an object has other content",
        _object("sed s/padding/changed/ kept >$O; verity-enable --hash sha512 $O"),
    ),
    "open-object": _row("an object has no fs-verity", _object("cp kept $O")),
    "no-meta": Row(
        "no meta.json in the repository",
        prepare="mv composefs/meta.json kept",
        undo="mv kept composefs/meta.json",
    ),
    "unknown-feature": Row(
        "meta.json has an incompatible feature that nobody knows",
        prepare="""mv composefs/meta.json kept; """
        """sed 's/"incompatible": .*/"incompatible": ["new"]/' kept >composefs/meta.json; """
        """grep -q '"new"' composefs/meta.json || exit 90; """
        "verity-enable --hash sha512 composefs/meta.json",
        undo="rm composefs/meta.json; mv kept composefs/meta.json",
    ),
    "no-deployment": Row(
        "no deployment of the image",
        prepare="mv state/deploy/$B kept",
        undo="mv kept state/deploy/$B",
    ),
    "etc-leaves": Row(
        "the deployment's etc is a link that leaves the disk",
        prepare="mv state/deploy/$B/etc kept; ln -s /guest state/deploy/$B/etc",
        undo="rm state/deploy/$B/etc; mv kept state/deploy/$B/etc",
        also=_SEEN.format("etc"),
    ),
    "var-leaves": Row(
        "the deployment's var is a link that leaves the disk",
        prepare="mv state/deploy/$B/var kept; ln -s ../../../../guest state/deploy/$B/var",
        undo="rm state/deploy/$B/var; mv kept state/deploy/$B/var",
        also=_SEEN.format("var"),
    ),
    "devices": Row(
        "devices and set-user-ID programs in /etc",
        also="grep -q ' /disk/etc [^ ]*nosuid,nodev' /proc/self/mountinfo || echo '; they count'",
    ),
}
PROGRAMS = {
    "ours": "cfs-setup-root --sysroot /disk --config /guest/ours.conf",
    "theirs": "composefs-setup-root --sysroot /disk --config /guest/theirs.toml",
}
# What was prepared is undone from the directory below: the root is mounted over the disk.
_SCRIPT = """
B=$SHA512
cd /disk
undo() {{ umount -l /disk/var /disk/etc /disk/sysroot /disk 2>/dev/null; {undo}; }}
trap 'code=$?; undo; exit $code' EXIT
{prepare}
echo "{line}" >/tmp/line
mount -o bind /tmp/line /proc/cmdline
{program} 2>/tmp/said
code=$?
umount /proc/cmdline
root=$(grep ' /disk [^-]* - overlay composefs:' /proc/self/mountinfo)
if [ $code != 0 ]; then
    echo refused
    [ -z "$root" ] || echo '; its root stays mounted'
    cat /tmp/said >&2
else
    echo boots
    case $root in *verity=require*) ;; *) echo '; unverified' ;; esac
    [ "$(tail -n 1 /disk/usr/bin/program 2>/dev/null)" = '# padding' ] ||
        echo '; a file of it cannot be read'
    {also}
fi
"""


@pytest.fixture(scope="module")
def outcomes(toolbox: Toolbox, store: Store) -> Results:
    """All in one boot of the newest kernel, where theirs needs no work-around."""
    made = make_disk(toolbox, store)
    known = f"SHA512={made.cfsctl[SHA512]} SHA256={made.cfsctl[SHA256]}\n"
    cases = [
        Case(
            f"{name}-{who}",
            known + _SCRIPT.format(**{**vars(row), "program": program}),
            limit=60,
            leaks=True,
        )
        for name, row in ROWS.items()
        for who, program in PROGRAMS.items()
    ]
    return run_cases(
        toolbox,
        toolbox.kernel("newest"),
        cases,
        # Theirs takes a repository for one with fs-verity where its meta.json has that.
        setup=f"mount -t ext4 /dev/vda /disk && cd /disk && "
        f"verity-enable --hash sha512 {SHA512}/meta.json && "
        f"verity-enable --hash sha256 {SHA256}/meta.json",
        modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
        files={
            "usr/bin/cfs-setup-root": cfs_init(),
            "guest/cfs-init": "",
            "guest/ours.conf": config.format(setup_root_conf.read(TOML, "a test")),
            "guest/theirs.toml": TOML,
            **bundle("composefs-setup-root", str(peer.setup_root()).lstrip("/")),
        },
        disks=[Disk(made.disk("ext4"), discard_writes=True)],
    )


def _outcome(results: Results, case: str) -> str:
    result = results.check(case)
    return result.stdout.replace("\n", "")


@pytest.mark.parametrize("name", ROWS)
def test_the_table_says_what_becomes_of_it(outcomes: Results, name: str) -> None:
    ours, theirs = (_outcome(outcomes, f"{name}-{who}") for who in PROGRAMS)
    said = outcomes[f"{name}-theirs"].stderr
    assert f"| {ROWS[name].title} | {ours} | {theirs} |\n" in PAGE.read_text(), said


def test_the_table_has_no_other_row() -> None:
    _, _, table = PAGE.read_text().partition("| Case | cfs-setup-root | composefs-setup-root |\n")
    rows = table.partition("\n\n")[0].splitlines()[1:]
    assert [row.split("|")[1].strip() for row in rows] == [row.title for row in ROWS.values()]
