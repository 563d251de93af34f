# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cfs-mount in a guest, on a sealed store: what mounts, what is refused, what is traced."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from . import mount8
from .bundle import bundle
from .cases import Case, LazyResults, run_cases
from .guest import Disk
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .listing import listing
from .product import LINKS, mount_files, refusal
from .repository import object_path
from .store import Store
from .toolbox import Toolbox

DIGEST_FORM = r"64 \(sha256\) or 128 \(sha512\) lower-case hex digits"
# Not each processor has each: "?".
TRACED = "openat2,openat,?open,dup,?dup2,dup3,ioctl,fsconfig,fsopen,fsmount,move_mount"


@dataclass(frozen=True)
class Digests:
    """Those of the store's image."""

    sha256: str
    sha512: str


def wrong_digit(digest: str) -> str:
    """The digest with its last digit changed."""
    return digest[:-1] + ("0" if digest[-1] != "0" else "1")


def malformed(store: Digests) -> dict[str, tuple[str, str]]:
    """Name to (argument, what is found)."""
    good, length = store.sha256, "a digest of the wrong length"
    character = "a character that is not a lower-case hex digit"
    return {
        "empty": ("", "an empty digest"),
        "prefix-only": ("sha256:", ".*"),
        "cut": (good[:-1], length),
        "cut-by-a-byte": (good[:-2], length),
        "too-long": (good + "00", length),
        "between": (good + good[:32], length),
        "upper-case": (good.upper(), character),
        "one-upper-case": (good[:10] + "A" + good[11:], character),
        "space": (" " + good[1:], character),
        "newline": (good[:-1] + "\n", character),
        "slash": (good[:2] + "/" + good[3:], character),
        "climbing": ("../" + good[3:], character),
        "fan-out": (good[:2] + "/" + good[2:], length),
        "sha512-of-32-bytes": ("sha512:" + good, length),
        "sha256-of-64-bytes": ("sha256:" + store.sha512, length),
        "composefs-rs-other": ("fsverity-sha512-12:" + good, length),
        "block-size": ("fsverity-sha256-16:" + good, "an unknown prefix"),
        "md5": ("md5:" + good, "an unknown prefix"),
        "not-utf-8": (good[:-1] + "\\377", f"({length}|{character})"),
    }


def _malformed_cases(store: Digests) -> Iterator[Case]:
    for name, (text, found) in malformed(store).items():
        # printf: octal escapes become bytes; the shell alone cannot write them.
        shell = text.replace("\n", "\\n")
        yield Case(
            f"malformed-{name}",
            f"text=$(printf '{shell}.'); text=${{text%.}}\n"
            f"strace -f -o /tmp/trace -e trace=%file cfs-mount --object-store $R "
            f'--digest "$text" $T; code=$?\ncat /tmp/trace; exit $code\n',
            code=1,
            stderr=refusal("usage", "--digest", f"{found}.*", DIGEST_FORM, verdict="error"),
        )


def _mounting_cases(store: Digests) -> Iterator[Case]:
    mount = "cfs-mount --object-store"
    see = "; code=$?; cat /proc/self/mountinfo; umount $T || code=99; exit $code"
    here = rf"^\d+ .* /mnt/root ro.* - overlay composefs:{store.sha256} ro.*\bverity=require\b"
    for name, text in {
        "bare": "$D",
        "sha256": "sha256:$D",
        "composefs-rs": "fsverity-sha256-12:$D",
    }.items():
        yield Case(f"digest-{name}", f"{mount} $R --digest {text} $T{see}", stdout=here)
    for name, text in {
        "bare": "$E",
        "sha512": "sha512:$E",
        "composefs-rs": "fsverity-sha512-12:$E",
    }.items():
        yield Case(
            f"sha512-{name}",
            f"{mount} $R --digest {text} $T{see}",
            stdout=rf"composefs:{store.sha512} .*verity=require",
        )
    yield Case(
        "reads-back",
        f"{mount} $R --digest $D $T && dumptree $T; code=$?; umount $T;exit $code",
        stderr=r"\A\Z",
    )
    yield Case("objects-directory", f"{mount} $R/objects --digest $D $T{see}", stdout=here)
    yield Case("equals-sign", f"{mount}=$R --digest=$D $T{see}", stdout=here)
    yield Case("relative", f"cd /disk && {mount} repo --digest $D ../mnt/root{see}", stdout=here)
    yield Case(
        "image-outside", f"{mount} $R --image /disk/image.cfs --digest $D $T{see}", stdout=here
    )
    yield Case(
        "verbose",
        f"{mount} $R --digest $D -v $T{see}",
        stderr=rf"\Acfs-mount: .*sha256:{store.sha256}, verity=require\) mounted on "
        r"/mnt/root\n\Z",
    )
    yield Case("json", f"{mount} $R --digest $D --json $T && umount $T")
    yield Case("dry-run", f"{mount} $R --digest $D --dry-run --json $T")
    yield Case(
        "twice",
        f"{mount} $R --digest $D $T && {mount} $R --digest $D -v $T{see}",
        stdout=here,
        stderr="is mounted on /mnt/root already",
    )
    yield Case(
        "two-targets",
        f"mkdir -p /mnt/two && {mount} $R --digest $D /mnt/two && "
        f"{mount} $R --digest $D $T && dumptree $T >/tmp/1 && dumptree /mnt/two >/tmp/2 &&"
        "cmp /tmp/1 /tmp/2; code=$?; umount /mnt/two $T || code=99; exit $code",
    )
    yield Case(
        "upper",
        "mkdir /disk/state/upper /disk/state/work && "
        f"{mount} $R --digest $D --upperdir /disk/state/upper --workdir /disk/state/work $T &&"
        "echo new >$T/etc/new && echo changed >$T/etc/hostname && rm $T/usr/lib/deep/er/data &&"
        "cat $T/etc/new $T/etc/hostname; code=$?;"
        "cat /proc/self/mountinfo; umount $T; ls -R /disk/state/upper; "
        "rm -rf /disk/state/upper /disk/state/work; exit $code",
        stdout=r"\Anew\nchanged\n(.*\n)*.* /mnt/root rw.*verity=require",
    )
    yield Case(
        "upper-without-the-canary",
        "mkdir /disk/state/upper /disk/state/work; code=0; for i in 1 2; do "
        f"{mount} $R --digest $D --upperdir /disk/state/upper --workdir /disk/state/work $T "
        "|| { code=1; break; }; rm -f $T/etc/os-release; umount $T; done; "
        "rm -rf /disk/state/upper /disk/state/work; exit $code",
        stderr=r"\A\Z",
    )
    yield Case(
        "upper-mounted-already",
        "mkdir /disk/state/upper /disk/state/work && "
        f"{mount} $R --digest $D --upperdir /disk/state/upper --workdir /disk/state/work $T && "
        f"{mount} $R --digest $D $T; code=$?; umount $T;"
        "rm -rf /disk/state/upper /disk/state/work; exit $code",
        code=32,
        stderr=r"is mounted there already, with an upper layer, expected none",
    )
    yield Case(
        "target-is-a-link",
        f"ln -s /mnt/root /tmp/link && {mount} $R --digest $D --json /tmp/link >/dev/full; "
        "code=$?; rm /tmp/link; exit $code",
        code=32,
        stderr=r"attach: standard output: No space left on device",
    )
    yield Case(
        "upper-read-only",
        "mkdir /disk/state/upper /disk/state/work && "
        f"{mount} $R --digest $D --upperdir /disk/state/upper --workdir /disk/state/work --ro $T"
        " && ! echo new >$T/etc/new; code=$?; umount $T;"
        "rm -rf /disk/state/upper /disk/state/work; exit $code",
    )
    thp = "/sys/kernel/mm/transparent_hugepage/enabled"
    yield Case(
        "huge-pages-never",
        f"was=$(sed 's/.*\\[\\(.*\\)\\].*/\\1/' {thp}) && echo never >{thp} || exit 9; "
        f"{mount} $R --digest $D $T; code=$?; echo $was >{thp}; "
        "cat /proc/self/mountinfo; umount $T; exit $code",
        stdout=here,
    )
    yield Case(
        # Nothing may be promised but what is there, and 8 MB of it.
        "memory-is-not-overcommitted",
        "limit=$(($(sed -n 's/^Committed_AS: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) + 8192)); "
        "cd /proc/sys/vm; echo $limit >overcommit_kbytes; echo 2 >overcommit_memory; "
        f"{mount} $R --digest $D $T; code=$?; echo 0 >overcommit_memory; "
        "cat /proc/self/mountinfo; umount $T; exit $code",
        stdout=here,
    )
    yield Case(
        "verity-off",
        f"{mount} $R --digest $D --image /disk/unsealed.cfs --verity off $T"
        "; code=$?; cat /proc/self/mountinfo; umount $T; exit $code",
        stderr=r"\Acfs-mount: warning: --verity off: nothing of /mnt/root is checked\n\Z",
    )


def _helper_cases(store: Digests) -> Iterator[Case]:
    see = "; code=$?; cat /proc/self/mountinfo; umount $T || code=99; exit $code"
    here = rf" /mnt/root ro.* - overlay composefs:{store.sha256} ro.*\bverity=require\b"
    yield Case("mount.cfs", f"mount.cfs $R $T -o digest=$D{see}", stdout=here)
    yield Case(
        "mount.cfs-options",
        f"mount.cfs $R $T -n -o ro,nosuid,nodev,x-mine -o digest=$D{see}",
        stdout=r" /mnt/root ro,nosuid,nodev",
    )
    yield Case("mount.cfs-fake", "mount.cfs $R $T -f -o digest=$D")
    yield Case(
        "mount-8",
        f"mount8 -t cfs $R $T -o digest=$D,nosuid{see}",
        stdout=r" /mnt/root ro,nosuid.*composefs:",
    )
    yield Case(
        "mount-8-fstab",
        f"mkdir -p /etc; echo $R $T cfs digest=$D,nodev,nofail 0 0 >/etc/fstab; mount8 $T{see}",
        stdout=r" /mnt/root ro,nodev.*composefs:",
    )
    yield Case(
        "mount-8-refused",
        "mount8 -t cfs $R $T -o digest=$WRONG",
        code=32,
        stderr=refusal(
            "open", ".*", "No such file or directory .*", "image sha256:.*", program="mount.cfs"
        ),
    )


def _refused_cases(store: Digests) -> Iterator[Case]:
    mount = "cfs-mount --object-store"
    wrong = wrong_digit(store.sha256)
    absent = r"No such file or directory \(ENOENT\)"
    yield Case(
        "wrong-digit",
        f"{mount} $R --digest $WRONG $T",
        code=32,
        stderr=refusal("open", f"/disk/repo/{object_path(wrong)}", absent, f"image sha256:{wrong}"),
    )
    yield Case(
        "wrong-digit-of-image",
        f"{mount} $R --image /disk/image.cfs --digest $WRONG $T",
        code=32,
        stderr=refusal("measure", "/disk/image.cfs", f"sha256:{store.sha256}", f"sha256:{wrong}"),
    )
    yield Case(
        "other-algorithm-of-image",
        f"{mount} $R --image /disk/image.cfs --digest $E $T",
        code=32,
        stderr=refusal(
            "measure", "/disk/image.cfs", f"sha256:{store.sha256}", f"sha512:{store.sha512}"
        ),
    )
    yield Case(
        "unsealed",
        f"{mount} $R --image /disk/unsealed.cfs --digest $D $T",
        code=32,
        stderr=refusal(
            "measure",
            "/disk/unsealed.cfs",
            r"no fs-verity on this file \(ENODATA\)",
            f"sha256:{store.sha256}",
        ),
    )
    yield Case(
        "other-image-of-that-name",
        f"C=/disk/other; cp -al $R $C && ln -s ../{object_path(store.sha256)} "
        f"$C/images/$WRONG && {mount} $C --digest $WRONG $T; code=$?; rm -rf $C; exit $code",
        code=32,
        stderr=refusal(
            "measure", f"/disk/other/images/{wrong}", f"sha256:{store.sha256}", f"sha256:{wrong}"
        ),
    )
    yield Case(
        "alias",
        "C=/disk/alias; cp -al $R $C && mkdir -p $C/images/refs $C/objects/refs &&"
        f"cp -l $C/{object_path(store.sha256)} $C/kept &&"
        f"rm $C/images/$D $C/{object_path(store.sha256)} &&"
        "for name in $C/images/refs/$D $C/images/refs/main $C/refs $C/objects/refs/$D $C/$D"
        "; do ln -s /disk/alias/kept $name; cp -l $C/kept $name.cfs; done;"
        f"{mount} $C --digest $D $T; code=$?; rm -rf $C; exit $code",
        code=32,
        stderr=refusal(
            "open",
            f"/disk/alias/{object_path(store.sha256)}",
            absent,
            f"image sha256:{store.sha256}",
        ),
    )
    yield Case(
        "other-digest-mounted",
        f"{mount} $R --digest $D $T && {mount} $R --digest $E $T;"
        "code=$?; umount $T && ! umount $T 2>/dev/null; exit $code",
        code=32,
        stderr=refusal(
            "attach",
            "/mnt/root",
            f"sha256:{store.sha256} is mounted there already",
            f"sha512:{store.sha512}",
        ),
    )
    yield Case(
        "no-store",
        f"{mount} /disk/none --digest $D $T",
        code=32,
        stderr=refusal("store", "/disk/none", absent, "an object store"),
    )
    yield Case(
        "no-target",
        f"{mount} $R --digest $D /mnt/none",
        code=32,
        stderr=refusal("attach", "/mnt/none", absent, "a directory to mount on"),
    )
    yield Case(
        "file-as-target",
        f"{mount} $R --digest $D /init",
        code=32,
        stderr=refusal(
            "attach", "/init", r"Not a directory \(ENOTDIR\)", "a directory to mount on"
        ),
    )
    yield Case("no-digest", f"{mount} $R $T", code=1, stderr="usage: --digest: missing")
    yield Case(
        "digest-twice",
        f"{mount} $R --digest $D --digest $D $T",
        code=1,
        stderr="usage: --digest: given twice",
    )
    yield Case(
        "not-root",
        f"setpriv8 --reuid 1 --regid 1 --clear-groups {mount} $R --digest $D $T",
        code=2,
        stderr=r"error: attach: /mnt/root: Operation not permitted \(EPERM\), expected",
    )


def _traced_cases() -> Iterator[Case]:
    for name, digest in (("sha256", "$D"), ("sha512", "$E")):
        yield Case(
            f"trace-{name}",
            f"strace -f -y -s 256 -o /tmp/trace -e trace={TRACED} "
            f"cfs-mount --object-store $R --digest {digest} $T; code=$?; umount $T;"
            "cat /tmp/trace; exit $code",
        )
    yield Case(
        "trace-image",
        f"strace -f -y -s 256 -o /tmp/trace -e trace={TRACED} cfs-mount --object-store $R "
        "--image /disk/image.cfs --digest $D $T; code=$?; umount $T; cat /tmp/trace; exit $code",
    )


def _cases(store: Digests, newest: bool = False) -> list[Case]:
    """All of them; on the newest kernel those of mount8.py."""
    parts = (
        _mounting_cases(store),
        _helper_cases(store),
        _refused_cases(store),
        _traced_cases(),
        _malformed_cases(store),
    )
    prelude = (
        f"R=/disk/repo T=/mnt/root D={store.sha256} E={store.sha512}\n"
        f"WRONG={wrong_digit(store.sha256)}\nmkdir -p $T\n"
    )
    return [
        Case(
            case.name, prelude + case.script, code=case.code, stdout=case.stdout, stderr=case.stderr
        )
        for part in ((mount8.CASES,) if newest else (*parts, mount8.CASES))
        for case in part
    ]


@pytest.fixture(scope="session")
def guest(toolbox: Toolbox, store: Store) -> LazyResults:
    """All of them in one boot."""
    return _boot(toolbox, store, "stable")


@pytest.fixture(scope="session")
def newest(toolbox: Toolbox, store: Store) -> LazyResults:
    """Those of mount8.py."""
    return _boot(toolbox, store, "newest")


def _boot(toolbox: Toolbox, store: Store, role: str) -> LazyResults:
    return LazyResults(
        lambda: run_cases(
            toolbox,
            toolbox.kernel(role),
            _cases(Digests(store.sha256, store.sha512), role == "newest"),
            setup=f"{LINKS}mount -t ext4 /dev/vda /disk",
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            files={
                **mount_files(),
                **bundle("mount8", "usr/bin/mount"),
                **bundle("setpriv8", "usr/bin/setpriv"),
            },
            disks=[Disk(store.disk("ext4"), discard_writes=True)],
        )
    )


_ALL = _cases(Digests("0" * 64, "1" * 128))
_TRACES = [case.name for case in _ALL if case.name.startswith("trace-")]
_MALFORMED = [case.name for case in _ALL if case.name.startswith("malformed-")]


@pytest.mark.parametrize("name", [case.name for case in _ALL])
def test_case(guest: LazyResults, name: str) -> None:
    guest.check(name)


@pytest.mark.newest
@pytest.mark.parametrize("name", [case.name for case in mount8.CASES])
def test_mount_8_on_the_newest_kernel(newest: LazyResults, name: str) -> None:
    newest.check(name)


@pytest.mark.parametrize("role", ["stable", pytest.param("newest", marks=pytest.mark.newest)])
def test_json_of_a_name_that_is_no_text(request: pytest.FixtureRequest, role: str) -> None:
    """For a reader that takes UTF-8 only."""
    results: LazyResults = request.getfixturevalue("guest" if role == "stable" else role)
    record = json.loads(results.check("json-of-a-name-that-is-no-text").stdout)
    json.dumps(record, ensure_ascii=False).encode()
    assert (record["target"], record["escaped"]) == ("/mnt/\\xff\\\\", ["target"])


def test_all_files_read_back_as_in_the_source(guest: LazyResults, store: Store) -> None:
    assert sorted(guest.check("reads-back").stdout.splitlines()) == listing(store.source)


@pytest.mark.parametrize("name", _MALFORMED)
def test_a_malformed_digest_is_refused_before_any_disk_access(
    guest: LazyResults, name: str
) -> None:
    trace = guest[name].stdout
    assert "execve(" in trace
    assert "/disk" not in re.sub(r"execve\(.*", "", trace)
    assert "/mnt" not in re.sub(r"execve\(.*", "", trace)


@pytest.mark.parametrize("name", _TRACES)
def test_the_image_is_opened_once_and_that_descriptor_measured_and_mounted(
    guest: LazyResults, store: Store, name: str
) -> None:
    """strace -y shows what each descriptor is: every name of the image leads to its object."""
    trace = guest.check(name).stdout
    digest = store.sha512 if name == "trace-sha512" else store.sha256
    file = "/disk/image.cfs" if name == "trace-image" else f"/disk/repo/{object_path(digest)}"
    opened = re.findall(rf"open(?:at2?)?\(.* = (\d+)<{re.escape(file)}>$", trace, re.MULTILINE)
    assert len(opened) == 1, trace
    [fd] = opened
    assert not re.search(rf"dup[23]?\({fd}<", trace)
    measured = re.findall(
        rf"ioctl\((\d+)<{re.escape(file)}>, FS_IOC_MEASURE_VERITY.*\) = 0$", trace, re.MULTILINE
    )
    assert measured == [fd], trace
    sources = re.findall(
        r'fsconfig\(.*, FSCONFIG_SET_STRING, "source", "(/proc/.*?)"', trace, re.MULTILINE
    )
    assert sources == [f"/proc/self/fd/{fd}"], trace
    at = [trace.index(mark) for mark in ("FS_IOC_MEASURE_VERITY", 'fsopen("erofs"', "move_mount(")]
    assert at == sorted(at)


def test_json(guest: LazyResults, store: Store) -> None:
    record = json.loads(guest.check("json").stdout)
    assert record == {
        "digest": f"sha256:{store.sha256}",
        "verity": "require",
        "store": "/disk/repo",
        "image": f"/disk/repo/images/{store.sha256}",
        "target": "/mnt/root",
        "loop": False,
        "canary": "etc/os-release",
        "upperdir": None,
        "mounted": True,
    }
    assert json.loads(guest.check("dry-run").stdout) == {**record, "mounted": False}


def test_what_goes_to_the_upper_directory(guest: LazyResults) -> None:
    listed = guest.check("upper").stdout.split("/disk/state/upper:", 1)[1]
    assert {"new", "hostname", "data"} <= set(listed.split())
