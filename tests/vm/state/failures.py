# SPDX-License-Identifier: Apache-2.0 OR MIT
"""State that is missing, left over, in use elsewhere or without room; a last step that fails."""

from collections.abc import Iterator

from .case import Setup, case, refused


def missing() -> Iterator[Setup]:
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


def attaching() -> Iterator[Setup]:
    """What fails last: the disk that was made writable for the root is read-only again, whatever
    of it was in use until then."""
    for name, etc, place in (
        ("last-step-fails", "transient", ""),
        ("last-step-fails-image", "transient", "/images/ext4"),
        ("last-step-fails-overlay", "overlay", ""),
    ):
        again = f"cfs-setup-root --sysroot /disk --config /guest/configuration/{name}"
        yield case(
            name,
            "mount -o remount,ro /disk && strace -fo /tmp/trace -e trace=move_mount"
            f" {again} &&"
            "grep /disk/var /proc/self/mountinfo | grep -o ' rw,[a-z,]* .*' && down &&"
            "mount -o remount,ro /disk && strace -fo /tmp/trace2"
            " -e inject=move_mount:error=ENOMEM:when=$(grep -c move_mount /tmp/trace)"
            f" {again};"
            "code=$?; grep ' /disk ' /proc/self/mountinfo | grep -o 'vda r.'; (exit $code)",
            etc=etc,
            var="bind",
            code=2,
            stdout=r"\A rw,.* rw.*\nvda ro\n\Z",
            stderr=r"\A.*\ncfs-setup-root: error: attach: /disk: Cannot allocate memory"
            r" \(ENOMEM\)\n\Z",
            end="mount -o remount,rw /disk\n",
            **({"state_var": place} if place else {}),
        )


def in_use() -> Iterator[Setup]:
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
