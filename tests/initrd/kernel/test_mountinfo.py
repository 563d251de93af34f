# SPDX-License-Identifier: Apache-2.0 OR MIT
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.kernel import mountinfo
from pyinit.initrd.kernel.mountinfo import Mount

# proc(5)'s own example, and an overlay as 6.12 shows it
EXAMPLE = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
OVERLAY = (
    b"84 30 0:45 / /sysroot ro,relatime - overlay composefs:ab ro,lowerdir+=/a\\054b,verity=require"
)
SPECIAL = b" \t\n\\#"

names = st.binary().map(lambda data: data.replace(b"\0", b"")) | st.lists(
    st.sampled_from([b" ", b"\t", b"\n", b"\\", b"#", b"040", b"a", b"\xff", b"\r", b"\x0b"])
).map(b"".join)


def escape(name: bytes) -> bytes:
    """seq_escape() with the characters of mangle() in fs/proc_namespace.c."""
    return b"".join(b"\\%03o" % c if c in SPECIAL else bytes([c]) for c in name)


def test_the_fields() -> None:
    (mount,) = mountinfo.parse(EXAMPLE)
    assert (mount.id, mount.root, mount.target) == (36, "/mnt1", "/mnt2")
    assert mount.device == "98:0"
    assert (mount.fstype, mount.source) == ("ext3", "/dev/root")
    assert mount.options == ["rw", "noatime"]
    assert mount.super_options == ["rw", "errors=continue"]


def test_an_overlay_without_optional_fields() -> None:
    mount = Mount(OVERLAY)
    assert (mount.fstype, mount.source, mount.target) == ("overlay", "composefs:ab", "/sysroot")
    assert "verity=require" in mount.super_options


def test_an_option_inside_a_name_is_none() -> None:
    # overlayfs escapes the comma of a path: seq_escape(",= \t\n\\")
    line = OVERLAY.replace(b"/a\\054b,verity=require", b"/a\\054verity\\075require")
    assert "verity=require" not in Mount(line).super_options


@given(names)
def test_escapes_round_trip(name: bytes) -> None:
    assert os.fsencode(mountinfo.unescape(escape(name))) == name


@given(st.lists(st.tuples(st.integers(0, 2**31), names, names, names), max_size=4))
def test_lines_round_trip(wanted: list[tuple[int, bytes, bytes, bytes]]) -> None:
    lines = b""
    for number, target, source, fstype in wanted:
        lines += b"%d 1 0:5 / /%s rw shared:1 master:2 " % (number, escape(target))
        lines += b"- %s %s ro,x\n" % (escape(fstype), escape(source))
    found = [
        (mount.id, os.fsencode(mount.target), os.fsencode(mount.source), os.fsencode(mount.fstype))
        for mount in mountinfo.parse(lines)
    ]
    assert found == [(number, b"/" + target, *rest) for number, target, *rest in wanted]


@given(numbers=st.lists(st.integers(0, 300), unique=True, max_size=8), wanted=st.integers(0, 300))
def test_a_mount_is_found_by_its_id_and_by_nothing_else(numbers: list[int], wanted: int) -> None:
    """Ids that begin or end alike; and numbers stand elsewhere in a line too."""
    data = b"".join(
        b"%d %d 0:%d / /mnt/%d rw,%d %d - ext4 %d %d \n" % ((n, wanted, n, wanted) + (wanted,) * 4)
        for n in numbers
    )
    found = mountinfo.find(data, wanted)
    assert (found and found.id) == (wanted if wanted in numbers else None)


def test_only_the_line_that_is_asked_for_is_read() -> None:
    data = b"broken\n" + EXAMPLE + b"37 broken\n"
    found = mountinfo.find(data, 36)
    assert found is not None
    assert found.target == "/mnt2"
    with pytest.raises(ValueError, match="37 broken"):
        mountinfo.find(data, 37)


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"36 35 98:0 / /mnt rw",
        b"36 35 98:0 / /mnt - ext4 a rw",
        b"36 35 98:0 / /mnt rw - ext4 a",
        b"x 35 98:0 / /mnt rw - ext4 a rw",
        b"36 35 98:0 / /mnt\\ rw - ext4 a rw",
        b"36 35 98:0 / /mnt\\x20 rw - ext4 a rw",
        b"36 35 98:0 / /mnt\\777 rw - ext4 a rw",
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Mount(line)


@given(st.binary())
def test_any_bytes_are_mounts_or_a_value_error(data: bytes) -> None:
    try:
        mountinfo.parse(data)
    except ValueError:
        pass


def test_of_this_process() -> None:
    mounts = mountinfo.read()
    assert mounts
    assert len({mount.id for mount in mounts}) == len(mounts)
    assert any(mount.target == "/proc" for mount in mounts)


def test_the_mount_of_a_descriptor(tmp_path: Path) -> None:
    # Of all mounts above it the nearest; Path.is_mount() sees no bind of the same file system.
    point = max((m.target for m in mountinfo.read() if tmp_path.is_relative_to(m.target)), key=len)
    fd = os.open(tmp_path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = mountinfo.of(fd)
    finally:
        os.close(fd)
    assert found is not None
    assert found.target == point


def test_a_descriptor_on_no_mount_of_ours() -> None:
    reader, writer = os.pipe()
    try:
        assert mountinfo.mount_id(reader) > 0
        assert mountinfo.of(reader) is None
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare(1)")
def test_what_this_kernel_writes(tmp_path: Path) -> None:
    target = os.fsencode(tmp_path) + b"/" + b"a \t\n\\#\\040\xff\r\xc3\xa9"
    os.mkdir(target)
    source = b"so urce\\\t#\xfe"
    script = b'mount -n -i -t tmpfs -- "$0" "$1" && exec cat /proc/self/mountinfo'
    done = subprocess.run(
        [b"unshare", b"--mount", b"sh", b"-c", script, source, target],
        capture_output=True,
        timeout=600,
        check=False,
    )
    if b"ermission denied" in done.stderr:
        pytest.skip("this root may not mount")
    assert done.returncode == 0, done.stderr
    last = mountinfo.parse(done.stdout)[-1]
    assert os.fsencode(last.target) == target
    assert (os.fsencode(last.source), last.fstype) == (source, "tmpfs")
