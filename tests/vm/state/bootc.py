# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A disk as bootc lays it out, with repositories that composefs-rs' own cfsctl has made.

/composefs with SHA-512, /composefs-sha256, /state/deploy/<digest>/etc and var, and the /var that
deployments share. The configuration says `[profile] name = "bootc"`, and little else; nothing tells
which UKI was started, so the command line may name one digest.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from pyinit.host.config import setup_root_conf
from tests.vm.cases import Case
from tests.vm.product import refusal

from .case import AT_END, PRELUDE, Setup

REPOSITORIES = Path(__file__).with_name("bootc.tar.gz")
"""What make_bootc.sh makes: composefs and composefs-sha256, not sealed."""
SHA512, SHA256 = "composefs", "composefs-sha256"
LINK = "../../os/default/var"

_BEFORE = """
mount -t tmpfs tmpfs /usr/lib/composefs
says() {{ echo "quiet $*" >/tmp/line; mount -o bind /tmp/line /proc/cmdline; }}
disk() {{ (cd ${{1:-/disk}} && find state composefs | sort); }}
B=${digest} O=/disk/state/os/default/var Q=/disk/state/deploy/${digest}
disk >/tmp/before
"""
# Each case finds the disk's links as they were made.
_AFTER = f"""down
ln -sfn {LINK} $Q/var
[ ! -e /disk/state/os/real ] || {{ rm /disk/state/os/default; cd /disk/state/os; mv real default; }}
cd /
umount /proc/cmdline
umount /usr/lib/composefs
"""
_UNCHANGED = "up; code=$?; disk | cmp - /tmp/before || code=9; (exit $code)"


def unpack(tree: Path) -> dict[str, str]:
    """Repositories and state in `tree`; digests of their images, by the repository."""
    subprocess.run(["tar", "-C", tree, "-xzf", REPOSITORIES], check=True, timeout=60)
    (tree / "state/os/default/var").mkdir(parents=True)
    digests = {}
    for name in (SHA512, SHA256):
        [digest] = (link.name for link in (tree / name / "images").iterdir() if link.is_symlink())
        deployment = tree / "state/deploy" / digest
        (deployment / "etc").mkdir(parents=True)
        (deployment / "etc/hostname").write_text("deployed\n")
        (deployment / "var").symlink_to(LINK)
        digests[name] = digest
    return digests


def _case(
    name: str,
    script: str,
    *,
    toml: str = "",
    digest: str = "SHA512",
    code: int = 0,
    stdout: str | None = None,
    stderr: str | None = None,
) -> Setup:
    settings = setup_root_conf.read(f'[profile]\nname = "bootc"\n{toml}'.encode(), name)
    whole = (
        PRELUDE.format(name=name, digest="$DIGEST")
        + _BEFORE.format(digest=digest)
        + script
        + AT_END.format(end=_AFTER)
    )
    return Setup(Case(name, whole, limit=60, code=code, stdout=stdout, stderr=stderr), settings)


def _refused(name: str, script: str, said: str, toml: str = "") -> Setup:
    """And nothing on the disk is another than before."""
    return _case(name, script + _UNCHANGED, toml=toml, code=32, stderr=said)


def _state(path: str, found: str, expected: str = "") -> str:
    return refusal("state", path, found, expected, program="cfs-setup-root")


def bootc() -> Iterator[Setup]:
    edit = (
        "cat $S/etc/hostname && tail -n 1 $S/usr/bin/program && [ ! -e $S/var/lib/shipped ] && "
        "echo e >$S/etc/edit && echo v >$S/var/v && record && cat /proc/self/mountinfo && "
        "! touch $S/usr/x $S/sysroot/x 2>/dev/null && down && cat $Q/etc/edit $O/v && "
        "ls $Q/etc && up && cat $S/etc/edit $S/var/v && rm $S/etc/edit $S/var/v"
    )
    said = (
        r"\Adeployed\n# padding\n.*\"source\": \"cmdline\".*\"digest\": \"{0}:.*\"etc\": \"bind\","
        r" \"var\": \"bind\".*\"path\": \"/state/os/default/var\".*\n(.*\n)*"
        r".* /disk r.* - overlay composefs:[0-9a-f]+ ro,(.*\n)*"
        r".* /state/deploy/[0-9a-f]+/etc /disk/etc rw,nosuid,nodev.*(.*\n)*"
        r".* /state/os/default/var /disk/var rw,nosuid,nodev.*\n(.*\n)*"
        r"e\nv\nedit\nhostname\ne\nv\n\Z"
    ).replace('\\"', '"')
    yield _case("bootc", "says composefs=$B && up && " + edit, stdout=said.replace("{0}", "sha512"))
    yield _case(
        "bootc-sha256",
        "says composefs composefs.digest=v1-sha256-12:$B rw && up && " + edit,
        toml=f'[store]\npath = "/{SHA256}"\n',
        digest="SHA256",
        stdout=said.replace("{0}", "sha256"),
    )
    yield _case(
        "bootc-volatile",
        "says systemd.volatile=state composefs=$B && up && touch $S/var/x && record && "
        "disk $S/sysroot | cmp - /tmp/before",
        stdout=r'"etc": "bind", "var": "tmpfs"',
    )
    yield _case(
        "bootc-words-for-modes",
        "says composefs=$B && up && ! touch $S/etc/x 2>/dev/null && touch $S/var/x && "
        "disk $S/sysroot | cmp - /tmp/before && record",
        toml='[etc]\nmount = "root"\n[var]\nmount = "volatile"\n',
        stdout=r'"etc": "none", "var": "tmpfs"',
    )
    yield _case(
        "bootc-transient-root",
        "says composefs=$B && up && touch $S/usr/new && grep ' /disk ' /proc/self/mountinfo && up",
        toml="[root]\ntransient = true\n",
        stdout=r"^.* /disk rw.* - overlay transient:composefs=[0-9a-f]{128} rw",
        stderr=r"^cfs-setup-root: sha512:[0-9a-f]{128} is mounted on /disk already$",
    )
    deployed = "/state/deploy/[0-9a-f]{128}/"
    for name, target in (("out", "../../../../guest"), ("up", "../../os/../deploy")):
        yield _refused(
            f"bootc-link-{name}",
            f"ln -sfn {target} $Q/var && disk >/tmp/before && says composefs=$B && ",
            _state(f"{deployed}var", f"a symbolic link to '{target}'", "../../os/NAME/var .*"),
        )
    yield _refused(
        "bootc-link-onward",
        "cd /disk/state/os && mv default real && ln -s real default && cd / && "
        "disk >/tmp/before && says composefs=$B && ",
        _state("/state/os/default/var", "a symbolic link, and none is followed: .*"),
    )
    yield _refused(
        "bootc-no-deployment",
        "mv $Q/etc $Q/gone; disk >/tmp/before; says composefs=$B; "
        "trap 'code=$?; mv $Q/gone $Q/etc; exit $code' EXIT; ",
        _state(f"{deployed}etc", r"No such file or directory \(ENOENT\)", "state that is there .*"),
    )
    wrong = "0" * 128
    link = f"/disk/composefs/images/{wrong}"
    yield _refused(
        "bootc-wrong-image",
        f"ln -s $(readlink /disk/composefs/images/$B) {link}; disk >/tmp/before; "
        f"says composefs={wrong}; trap 'code=$?; rm {link}; exit $code' EXIT; ",
        refusal(
            "measure", f"/disk/composefs/images/{wrong}", "sha512:[0-9a-f]+", f"sha512:{wrong}",
            program="cfs-setup-root",
        ),
    )  # fmt: skip
    for name, line, found in (
        (
            "bootc-two",
            f"composefs={wrong} composefs=$B",
            f"two digests, sha512:{wrong} and sha512:.*",
        ),
        ("bootc-unchecked", "composefs=?$B", r"composefs=\? \(verification off\), expected .*"),
    ):
        yield _refused(
            name,
            f"says '{line.replace('$B', '')}'$B && ",
            r"^cfs-setup-root: refused: source: kernel command line: " + found,
        )
