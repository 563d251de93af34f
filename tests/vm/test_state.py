# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What lies over the root: every mode of /etc, /var and /, hostile state, failures, edits kept.

cfs-setup-root composes the root over the disk at /disk, in the mount namespace of the case; "again"
is a second run after all is unmounted. Each case has its state at /state/<case>/<digest>/.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyinit.initrd import config, payload
from pyinit.initrd.digest import Digest

from .bundle import bundle
from .cases import Case, LazyResults, run_cases
from .disks import MIB, btrfs, ext4
from .guest import Disk
from .images import Member, erofs, redirected
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .once import made_once
from .product import cfs_init, refusal
from .store import CACHE, LARGE, SEAL, Store, object_path, sealed_disk, verity_digest
from .toolbox import Toolbox

LABEL = "system_u:object_r:etc_t:s0"
_XATTRS = {"security.selinux": LABEL.encode(), "user.kept": b"yes"}
RELEASE = LARGE["etc/os-release"].decode()


def _members(store: Store) -> list[Member]:
    def stored(name: str, source: str) -> Member:
        return redirected(name, store.objects[source], len(LARGE[source]))

    return [
        Member("etc/", mode=0o751, owner=(3, 4), xattrs=_XATTRS),
        Member("etc/hostname", b"fixture\n"),
        Member("etc/link", link="hostname", mode=0o777),
        stored("etc/os-release", "etc/os-release"),
        Member("etc/secret", b"secret\n", mode=0o600, owner=(5, 6), xattrs=_XATTRS),
        Member("etc/sub/", mode=0o700),
        stored("etc/sub/data", "usr/lib/deep/er/data"),
        Member("var/", mode=0o755, owner=(7, 8), xattrs=_XATTRS),
        Member("var/lib/", mode=0o755),
        Member("var/lib/shipped", b"shipped\n"),
        Member("sysroot/"),
        stored("usr/bin/program", "usr/bin/program"),
    ]


@dataclass(frozen=True)
class StateDisk:
    """The disk on each file system, and the digest of the one image in its store."""

    toolbox: Toolbox
    tree: Path
    digest: str

    def disk(self, file_system: str) -> Path:
        return sealed_disk(self.toolbox, self.tree, _SEAL, file_system)


_SEAL = SEAL.replace("verity-enable image.cfs\n", "")


def make_disk(toolbox: Toolbox, store: Store) -> StateDisk:
    """/repo with the image, /images with file systems in files."""

    def make(directory: Path) -> None:
        tree = store.copy_tree(directory / "tree")
        image = erofs(toolbox, directory / "image.cfs", _members(store))
        digest = verity_digest(toolbox, image)
        place = tree / "repo" / object_path(digest)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(image, place)
        (tree / "repo/images" / digest).symlink_to(f"../{object_path(digest)}")
        (tree / "images").mkdir()
        (directory / "empty").mkdir()
        for name in ("ext4", "ext4-overlay", "small", "twice"):
            ext4(toolbox, tree / "images" / name, directory / "empty", 4 * MIB)
        for name in ("btrfs", "btrfs-overlay"):
            btrfs(toolbox, tree / "images" / name, directory / "empty", 120 * MIB)
        (tree / "images/nothing").write_bytes(bytes(1 << 20))
        (directory / "digest").write_text(digest)

    key = repr((_members(store), 2, store.sha256))
    directory = made_once(CACHE / "state-disk", key, make)
    return StateDisk(toolbox, directory / "tree", (directory / "digest").read_text())


# Names in front of each script. What "down" unmounts is only what "up" mounted.
PRELUDE = """
up() {{ cfs-setup-root --sysroot ${{1:-/disk}} --config /guest/configuration/{name}; }}
down() {{
    for name in etc var sysroot; do
        ! cut -d' ' -f5 /proc/self/mountinfo | grep -qx "${{1:-/disk}}/$name" ||
        umount ${{1:-/disk}}/$name
    done
    ! grep -q " ${{1:-/disk}} .* - overlay composefs:" /proc/self/mountinfo || umount ${{1:-/disk}}
}}
record() {{ cat /run/cfs/root.json; }}
S=/disk D={digest} Q=/disk/state/{name}/{digest}
"""
AT_END = "\ncode=$?\n{end}exit $code\n"


@dataclass(frozen=True)
class Setup:
    """A case and its configuration."""

    case: Case
    settings: config.Config


def case(
    name: str,
    script: str,
    *,
    code: int = 0,
    stdout: str | None = None,
    stderr: str | None = None,
    end: str = "down\n",
    **values: str | int | bool,
) -> Setup:
    settings = config.Config()
    settings.store = "/repo"
    settings.state_etc = f"/state/{name}/{{digest}}/etc"
    settings.state_var = f"/state/{name}/{{digest}}/var"
    for key, value in values.items():
        assert hasattr(settings, key)
        setattr(settings, key, value)
    config.parse(config.format(settings), name)
    whole = PRELUDE.format(name=name, digest="$DIGEST") + script + AT_END.format(end=end)
    return Setup(Case(name, whole, limit=60, code=code, stdout=stdout, stderr=stderr), settings)


def refused(name: str, path: str, found: str, expected: str = "", step: str = "state") -> str:
    return refusal(
        step, f"/state/{name}/[0-9a-f]{{64}}{path}", found, expected, program="cfs-setup-root"
    )


def modes() -> Iterator[Setup]:
    yield case(
        "defaults",
        "find /disk/state >/tmp/1; up && echo edit >$S/etc/hostname && echo x >$S/var/x &&"
        "! echo x 2>/dev/null >$S/usr/x && ! echo x 2>/dev/null >$S/sysroot/x && record && down &&"
        "up && cat $S/etc/hostname && [ ! -e $S/var/x ] && [ ! -e $S/var/lib ] &&"
        "find $S/sysroot/state >/tmp/2; sed 's#/disk#/disk/sysroot#' /tmp/1 | cmp - /tmp/2",
        stdout=r'"etc": "transient", "var": "tmpfs", "state": {}, .*\nfixture\n',
    )
    yield case(
        "sizes",
        "up && df -kP $S/etc $S/var $S | awk 'NR > 1 { print $2 }'; touch $S/new",
        stdout=r"\A1024\n2048\n3072\n",
        root="transient",
        etc="transient",
        etc_size="1048576",
        var_size="2097152",
        root_size="3145728",
    )
    yield case(
        "none",
        "up && ! touch $S/etc/x 2>/dev/null && ! touch $S/var/x 2>/dev/null &&"
        "[ ! -e /disk/state/none ] && cat $S/etc/hostname $S/var/lib/shipped",
        stdout=r"\Afixture\nshipped\n",
        etc="none",
        var="none",
    )
    edit = (
        "up && stat -c '%a %u %g' $S/etc $S/var && getxattr $S/etc security.selinux &&"
        "getxattr $S/var user.kept && record && echo edit >$S/etc/hostname && echo v >$S/var/v &&"
        "rm $S/etc/sub/data && cat $S/etc/os-release | tail -n 1 && down && up &&"
        "cat $S/etc/hostname $S/var/v $S/var/lib/shipped && [ ! -e $S/etc/sub/data ] && record &&"
        "cat /proc/self/mountinfo && ! touch $S/usr/x 2>/dev/null"
    )
    both = rf"\A751 3 4\n755 7 8\n{LABEL}\nyes\n"
    yield case(
        "peers",
        edit,
        etc="overlay",
        var="bind",
        stdout=both + r'(.*\n)*.*"loop": true, .*"etc": "overlay", "var": "bind", .*"created": true'
        r'.*\n# padding\nedit\nv\nshipped\n.*"created": false(.*\n)*'
        r".* /disk/etc rw,nosuid,nodev.* - overlay cfs-etc .*redirect_dir=nofollow.*\n"
        r".* /disk/var rw,nosuid,nodev.* - (ext4|btrfs) ",
    )
    yield case(
        "etc-bind-var-overlay",
        edit,
        etc="bind",
        var="overlay",
        stdout=both
        + r"(.*\n)*edit\nv\nshipped\n(.*\n)*.* /disk/var rw.* - overlay cfs-var .*nofollow",
    )
    yield case(
        "copy",
        "up && cp -a /guest/configuration/copy /tmp/none &&"
        "sed -i 's/etc=bind/etc=none/; s/var=bind/var=none/' /tmp/none &&"
        "dumptree $S/etc && dumptree $S/var && echo AND && down &&"
        "cfs-setup-root --sysroot $S --config /tmp/none && dumptree $S/etc && dumptree $S/var",
        etc="bind",
        var="bind",
    )
    yield case(
        "var-on-disk",
        "up && echo x >$S/var/x && [ ! -e $S/var/lib ] && stat -c '%a %u %g' $S/var && record &&"
        "down && up && cat $S/var/x && down && mkdir -p $Q/var.transient/old/sub &&"
        "ln -s /disk/repo $Q/var.transient/old/link && mv $Q/var.transient/*-* "
        "$Q/var.transient/earlier && up && [ ! -e $S/var/x ] && ls $S/sysroot/state/var-on-disk/*/*"
        "&& [ -e $S/sysroot/repo/meta.json ]",
        var="transient-disk",
        stdout=r'\A755 7 8\n.*"var": "transient-disk"(.*\n)x\n'
        r"[0-9a-f]{8}-[0-9a-f-]{27}\n\Z",
    )
    yield case(
        "ostree-var",
        "mkdir -p /disk/ostree/deploy/os/var && echo o >/disk/ostree/deploy/os/var/o"
        "&& up && cat $S/var/o",
        stdout=r"\Ao\n",
        var="bind",
        state_var="/ostree/deploy/os/var",
        state_missing="refuse",
    )
    writable = "up && echo x >$S/usr/new && echo x >$S/new && rm $S/usr/bin/program && "
    # What lies over a writable root must be seen in it, not below it.
    yield case(
        "root-transient",
        writable + "echo e >$S/etc/e && echo v >$S/var/v &&"
        "cat $S/sysroot/meta || cat $S/sysroot/repo/meta.json && [ ! -e $Q/etc ] &&"
        "stat -c %a $S && down && cat $Q/etc/upper/e $Q/var/v &&"
        "up && [ ! -e $S/new ] && [ -x $S/usr/bin ] && cat $S/etc/e $S/var/v && record",
        root="transient",
        etc="overlay",
        var="bind",
        # 777 is what the image says of its root
        stdout=r'features.*777\ne\nv\ne\nv\n.*"root": "transient"',
    )
    yield case(
        "root-transient-etc-none",
        writable + "echo e >$S/etc/e && cat $S/etc/e && down && up &&[ ! -e $S/etc/e ]",
        root="transient",
        etc="none",
        var="none",
        stdout=r"\Ae\n",
    )
    yield case(
        "root-transient-ro",
        "up && ! touch $S/new 2>/dev/null && touch $S/etc/e &&"
        "mount -o remount,rw $S && touch $S/new && ls $S/new",
        root="transient-ro",
        stdout="/disk/new",
    )
    # The root file system as an initrd leaves it: read-only.
    yield case(
        "read-only-disk",
        "mount -o remount,ro /disk && up && echo e >$S/etc/e && record &&"
        "! touch $S/sysroot/x 2>/dev/null && grep ' /disk/sysroot ro' /proc/self/mountinfo",
        etc="overlay",
        var="none",
        stdout='"sysroot": "read-only"',
        end="down; mount -o remount,rw /disk\n",
    )
    yield case(
        "read-only-disk-stays",
        "mount -o remount,ro /disk && up && ! touch /disk/x 2>/dev/null &&down && touch /disk/x",
        stderr=r"touch: /disk/x: Read-only file system",
        code=1,
        end="down; mount -o remount,rw /disk\n",
    )
    yield case(
        "read-only-disk-restored",
        "mount -o remount,ro /disk && up; code=$?;"
        "grep ' /disk ' /proc/self/mountinfo; mount -o remount,rw /disk; exit $code",
        stdout=r" /disk r.* - \w+ /dev/vda ro",
        code=32,
        etc="bind",
        var="bind",
        state_missing="refuse",
    )
    yield case(
        "sysroot-writable",
        "up && echo x >$S/sysroot/state/w && down && cat /disk/state/w",
        sysroot_readonly=False,
        stdout=r"\Ax\n",
    )
    yield case(
        "modules-of-the-record",
        "up && record",
        etc="overlay",
        var="transient-disk",
        stdout=r'"state": {"etc": {"path": "/state/modules-of-the-record/[0-9a-f]{64}/etc", '
        r'"kind": "directory", "created": true}, "var": {"path": ".*/var.transient/',
    )


def hostile() -> Iterator[Setup]:
    plant = "mkdir -p $Q/etc/upper $Q/etc/work && "
    xattr = "setxattr $Q/etc/upper/{} trusted.overlay.{} {} && "
    yield case(
        "planted-file",
        plant
        + "truncate -s 300 $Q/etc/upper/evil && "
        + xattr.format("evil", "redirect", "/os-release")
        + xattr.format("evil", "metacopy", "''")
        + "up && cat $S/etc/hostname && cat $S/etc/evil",
        etc="overlay",
        code=1,
        stdout=r"\Afixture\n\Z",
        stderr=r"/etc/evil'?: Operation not permitted",
    )
    yield case(
        "planted-metacopy",
        plant
        + "truncate -s 300 $Q/etc/upper/os-release && "
        + xattr.format("os-release", "metacopy", "''")
        + "up && cat $S/etc/os-release",
        etc="overlay",
        code=1,
        stdout=r"\A\Z",
        stderr=r"Operation not permitted",
    )
    yield case(
        "planted-directory",
        plant
        + "mkdir $Q/etc/upper/evil && "
        + xattr.format("evil", "redirect", "/sub")
        + "up && cat $S/etc/evil/data",
        etc="overlay",
        code=1,
        stdout=r"\A\Z",
        stderr=r"Operation not permitted",
    )
    link = "a symbolic link, and none is followed: Too many levels of symbolic links .*"
    yield case(
        "link-as-entry",
        "mkdir -p $Q /disk/state/there && ln -s ../../there $Q/etc && up",
        etc="bind",
        code=32,
        stderr=refused("link-as-entry", "/etc", link),
    )
    yield case(
        "link-as-parent",
        "mkdir -p /disk/state/link-as-parent /disk/state/there/etc &&ln -s ../there $Q && up",
        etc="overlay",
        code=32,
        stderr=refused("link-as-parent", "/etc", link),
    )
    yield case(
        "link-as-parent-of-new",
        "mkdir -p /disk/state/there2 && ln -s there2 "
        "/disk/state/link-as-parent-of-new; up; code=$?; rmdir /disk/state/there2 || code=9;"
        "exit $code",
        etc="overlay",
        code=32,
        stderr=refused("link-as-parent-of-new", "/etc", link),
    )
    yield case(
        "link-as-upper",
        "mkdir -p $Q/etc && ln -s /disk/repo $Q/etc/upper && up",
        etc="overlay",
        code=32,
        stderr=refused("link-as-upper", "/etc", link),
    )
    yield case(
        "link-out",
        "mkdir -p $Q && ln -s /guest $Q/var && up",
        var="bind",
        code=32,
        stderr=refused("link-out", "/var", link),
    )
    yield case(
        "fifo",
        "mkdir -p $Q && mkfifo $Q/var && up",
        var="bind",
        code=32,
        stderr=refused("fifo", "/var", "neither directory nor file", ".*"),
    )
    yield case(
        "missing-refused",
        "up; code=$?; [ ! -e /disk/state/missing-refused ] || code=9;exit $code",
        etc="overlay",
        state_missing="refuse",
        code=32,
        stderr=refused(
            "missing-refused",
            "/etc",
            r"No such file or directory \(ENOENT\)",
            r"state that is there .*",
        ),
    )
    yield case(
        "missing-upper-refused",
        "mkdir -p $Q/etc && up",
        etc="overlay",
        state_missing="refuse",
        code=32,
        stderr=refused("missing-upper-refused", "/etc/upper", "missing", "a directory"),
    )
    yield case(
        "left-over",
        "mkdir -p $Q/etc.cfs-new/sub && ln -s /disk/repo $Q/etc.cfs-new/sub/l"
        "&& up && [ -e $S/etc/hostname ] && [ ! -e $S/etc/sub/l ] && ls $S/sysroot/state/"
        "left-over/* && cat $S/sysroot/repo/meta.json",
        etc="bind",
        stdout=r"\Aetc\n.*feat",
    )
    second = "mkdir -p /mnt/two && mount -t $FS /dev/vda /mnt/two && up && up /mnt/two"
    both = "down /mnt/two; umount /mnt/two; down\n"
    yield case(
        "in-use",
        second,
        etc="overlay",
        code=32,
        end=both,
        stderr=r"\A.*\ncfs-setup-root: refused: state: /state/in-use/\w{64}/etc: .*\(EBUSY\)"
        ", expected directories that no other overlay is using\n",
    )
    yield case(
        "image-in-use",
        second,
        var="bind",
        end=both,
        state_var="/images/twice",
        code=32,
        stderr=r"\A.*\ncfs-setup-root: refused: state: /images/twice: loop device: "
        r".*\(EBUSY\), expected an image file that nobody else has attached\n",
    )


_FILL = "{ dd if=/dev/zero of=/disk/fill bs=1M; dd if=/dev/zero of=/disk/fill2 bs=4k;} 2>/dev/null;"


def full() -> Iterator[Setup]:
    """On ext4 only: how btrfs fills up cannot be said beforehand."""
    free = "rm -f /disk/fill /disk/fill2\n"
    disk_full = "the disk is full: No space left on device .*"
    yield case(
        "full-disk",
        "mkdir -p $Q;" + _FILL + "up; code=$?; ls -A $Q; exit $code".replace("exit", free + "exit"),
        etc="bind",
        code=32,
        stdout=r"\A\Z",
        stderr=refused("full-disk", "/etc", disk_full),
    )
    yield case(
        "full-disk-old-state",
        "mkdir -p $Q/etc/upper; echo old >$Q/etc/upper/hostname;"
        + _FILL
        + "up; code=$?; ls -A $Q/etc; cat $Q/etc/upper/hostname;"
        + free
        + "exit $code",
        etc="overlay",
        code=32,
        stdout=r"\Aupper\nold\n\Z",
        # by us, or by overlayfs, which then would mount it read-only
        stderr=r"refused: (state|check): .*(the disk is full|a full disk)",
    )
    yield case(
        "full-image",
        "up && dd if=/dev/zero of=$S/var/fill bs=1M; ls $S/etc/hostname",
        var="bind",
        state_var="/images/small",
        stdout="hostname",
        stderr="No space left on device",
    )


def images() -> Iterator[Setup]:
    for kind in ("ext4", "btrfs"):
        grown = 12 * MIB if kind == "ext4" else 300 * MIB
        yield case(
            f"image-{kind}",
            "up && df -mP $S/var | awk 'NR > 1 { print "
            '"size", $2 }\' && echo v >$S/var/v && record && down && up && cat $S/var/v &&'
            "cat /proc/self/mountinfo",
            var="bind",
            state_var=f"/images/{kind}",
            state_grow=grown,
            stdout=(r"\Asize 12\n" if kind == "ext4" else r"\Asize 300\n")
            + r'.*"kind": "image file"(.*\n)v\n(.*\n)*.* /disk/var rw,nosuid,nodev.* - '
            rf"{kind} /dev/loop\d",
        )
        yield case(
            f"image-{kind}-overlay",
            "up &&"
            "stat -c '%a %u %g' $S/etc && echo edit >$S/etc/hostname && down && up &&"
            "cat $S/etc/hostname $S/etc/link",
            etc="overlay",
            state_etc=f"/images/{kind}-overlay",
            stdout=r"\A751 3 4\nedit\nedit\n",
        )
    yield case(
        "image-of-nothing",
        "up",
        var="bind",
        state_var="/images/nothing",
        code=32,
        stderr=refusal(
            "state",
            "/images/nothing",
            "no file system that is known here",
            "ext4 or btrfs in the image file",
            program="cfs-setup-root",
        ),
    )


def subvolumes() -> Iterator[Setup]:
    yield case(
        "subvolume",
        "mkdir -p $Q && btrfs subvolume create $Q/var && echo s >$Q/var/s &&"
        "btrfs subvolume create $Q/etc && up && cat $S/var/s && touch $S/etc/e && down &&"
        "ls $Q/etc",
        stdout=r"s\nupper\nwork\n",
        etc="overlay",
        var="bind",
    )


ON_EXT4 = [*modes(), *hostile(), *images(), *full()]
ON_BTRFS = [*modes(), *hostile(), *images(), *subvolumes()]


def run(
    toolbox: Toolbox, store: Store, series: str, file_system: str, setups: list[Setup]
) -> LazyResults:
    def boot() -> object:
        made = make_disk(toolbox, store)
        carried = payload.format([Digest.parse(made.digest, "a test")])
        known = f"DIGEST={made.digest} FS={file_system}\n"
        tools = {}
        if file_system == "btrfs":
            tools = bundle("btrfs", "usr/bin/btrfs", toolbox.tree)
        return run_cases(
            toolbox,
            toolbox.kernel(series),
            [
                Case(
                    s.case.name,
                    known + s.case.script,
                    limit=s.case.limit,
                    code=s.case.code,
                    stdout=s.case.stdout,
                    stderr=s.case.stderr,
                )
                for s in setups
            ],
            setup=f"mount -t {file_system} /dev/vda /disk",
            modules=(
                *GUEST_MODULES,
                *FILE_SYSTEM_MODULES["ext4"],
                *FILE_SYSTEM_MODULES["btrfs"],
                *HASH_MODULES,
            ),
            files={
                "usr/bin/cfs-setup-root": cfs_init(),
                payload.CARRIED.lstrip("/"): carried,
                **{f"guest/configuration/{s.case.name}": config.format(s.settings) for s in setups},
                **tools,
            },
            disks=[Disk(made.disk(file_system), discard_writes=True)],
        )

    return LazyResults(boot)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def on_ext4(toolbox: Toolbox, store: Store) -> LazyResults:
    """All in one boot of 6.12, which counts a file-backed EROFS as a level of stacking."""
    return run(toolbox, store, "6.12", "ext4", ON_EXT4)


@pytest.fixture(scope="session")
def on_btrfs(toolbox: Toolbox, store: Store) -> LazyResults:
    """All in one boot of 7.2."""
    return run(toolbox, store, "7.2", "btrfs", ON_BTRFS)


@pytest.mark.parametrize("name", [setup.case.name for setup in ON_EXT4])
def test_on_ext4(on_ext4: LazyResults, name: str) -> None:
    on_ext4.check(name)


@pytest.mark.parametrize("name", [setup.case.name for setup in ON_BTRFS])
def test_on_btrfs(on_btrfs: LazyResults, name: str) -> None:
    on_btrfs.check(name)


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_the_copy_for_a_bind_is_what_the_image_shows(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """Content, links, owners, modes, times, xattrs; file systems list them in different orders."""
    guest: LazyResults = request.getfixturevalue(f"on_{kind}")
    copy, image = (
        sorted(sorted(line.split(" ")) for line in part.splitlines())
        for part in guest.check("copy").stdout.split("AND\n")
    )
    assert len(image) == 10
    assert copy == image
