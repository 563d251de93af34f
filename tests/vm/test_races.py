# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Names that change while cfs-mount works: held still at the worst moment, and in a tight loop.

strace stops cfs-mount right after a system call (by SIGSTOP), another process swaps names, and it
goes on. The loops swap on a second CPU, with thousands of mounts of each.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyinit.host.frozen import build

from .bundle import bundle
from .cases import Case, LazyResults, run_cases
from .guest import Disk
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .matrix.stores import MatrixDisks, make_disks
from .once import REPOSITORY
from .product import cfs_init
from .toolbox import Toolbox

# Of each loop.
ATTEMPTS = 2000
# More than on a slow machine that does other things too.
_LOOP_SECONDS = 900

_LIBRARY = r"""
. /guest/names
T=/mnt/target S=/disk/race-$RACE
mkdir -p $T
rm -f /tmp/trace
cp -al /disk/repo $S || exit 90
image=$S/objects/${D%${D#??}}/${D#??}
cp /disk/other.cfs $S/evil && verity-enable $S/evil || exit 90
mount_it() { cfs-mount --object-store $S --digest $D "$@" $T; }

# Runs cfs-mount, stopped after system call $1 (its number $2): then $3, and it goes on.
held() {
    strace -f -qq -y -o /tmp/trace -e trace=openat2,ioctl,fsopen,fsconfig \
        -e inject=$1:signal=SIGSTOP:when=$2 cfs-mount --object-store $S --digest $D $T &
    tries=0
    until grep -q 'stopped by SIGSTOP' /tmp/trace 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 15000 ] || exit 89
        usleep 10000
    done
    grep "$1(" /tmp/trace | tail -n 1
    eval "$3" || exit 88
    kill -CONT $(grep 'stopped by' /tmp/trace | cut -d ' ' -f 1)
    wait $!
}

# All files are those of the right image, of right objects.
right() {
    for file in etc/canary etc/hostname usr/bin/program usr/lib/data; do
        cmp $T/$file /disk/expected/$file || return 1
    done
}

# ATTEMPTS while $1 and $2 are swapped; prints what came of them, and how many swaps there were.
loop() {
    swap $1 $2 >/tmp/swaps &
    swapper=$!
    attempts $ATTEMPTS $S $D $T /disk/expected $3
    code=$?
    kill $swapper
    wait $swapper
    echo "swaps=$(cat /tmp/swaps)"
    return $code
}
"""


def _cases() -> Iterator[Case]:
    def case(name: str, script: str, limit: int = 60) -> Case:
        begin = f"RACE={name} ATTEMPTS={ATTEMPTS}\n. /guest/race.sh\n"
        return Case(name, f"{begin}{script}\ncode=$?; rm -rf $S; exit $code\n", limit=limit)

    swap = "swap --once $image $S/evil"
    unmount = "right; code=$?; umount $T; (exit $code)"
    # The measuring is the first ioctl; the image is in the last openat2 before it.
    yield case("measured", f"held ioctl 1 '{swap}' && {unmount}")
    yield case("measured-deleted", f"held ioctl 1 'rm $image' && {unmount}")
    yield case("erofs-mounted", f"held fsopen 2 '{swap}' && {unmount}")
    yield case(
        "before-it-is-opened",
        f"held openat2 1 '{swap}'; [ $? = 32 ] && measure $image | grep -v $D >&2",
    )
    yield case(
        "objects",
        "cp -a $S/objects $S/evil-objects; held ioctl 1 "
        f"'swap --once $S/objects $S/evil-objects' && {unmount}",
    )
    yield case("image-loop", "loop $image $S/evil all", _LOOP_SECONDS)
    yield case(
        "objects-loop",
        # The other directory: the same names, wrong content, sealed; and the image, for the rest.
        "cp -al $S/objects $S/evil-objects; for digest in $PROGRAM $CANARY $DATA; do"
        " object=$S/evil-objects/${digest%${digest#??}}/${digest#??}; rm $object;"
        " cp /disk/other.cfs $object; verity-enable $object; done;"
        "loop $S/objects $S/evil-objects some",
        _LOOP_SECONDS,
    )


_CASES = list(_cases())


@pytest.fixture(scope="session")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cfs-init as it ships, but for its main()."""
    program = REPOSITORY / "tests/vm/programs/attempts.py"
    out = tmp_path_factory.mktemp("attempts")
    return build.build(REPOSITORY, out, replace={"pyinit.initrd.main": program})


@pytest.fixture(scope="session")
def guest(toolbox: Toolbox, attempts: Path) -> LazyResults:
    """All of them in one boot, on two CPUs."""
    disks: MatrixDisks = make_disks(toolbox)
    names = "".join(f"{name}={digest}\n" for name, digest in disks.names.items())
    return LazyResults(
        lambda: run_cases(
            toolbox,
            toolbox.kernel("stable"),
            _CASES,
            setup="mount -t ext4 /dev/vda /disk",
            modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
            cpus=2,
            disks=[Disk(disks.disk("ext4"), discard_writes=True)],
            files={
                "usr/bin/cfs-mount": cfs_init(),
                "usr/bin/attempts": attempts,
                "guest/names": names,
                "guest/race.sh": _LIBRARY,
                **bundle("strace", "usr/bin/strace"),
            },
        )
    )


@pytest.mark.parametrize("name", ["measured", "measured-deleted", "erofs-mounted"])
def test_what_was_measured_is_what_is_mounted(guest: LazyResults, name: str) -> None:
    guest.check(name)


def test_an_image_swapped_before_it_was_opened_is_refused(guest: LazyResults) -> None:
    assert "refused: measure: " in guest.check("before-it-is-opened").stderr


def test_the_first_object_directory_stays_in_use(guest: LazyResults) -> None:
    guest.check("objects")


def _counts(result: str) -> dict[str, int]:
    """Of `attempts` and `loop`: "mounted" and "swaps", and refusals by step."""
    print(result)  # to be seen by -rP
    return {name: int(number) for name, number in re.findall(r"([a-z]+)=(\d+)", result)}


def test_the_image_swapped_in_a_loop(guest: LazyResults) -> None:
    counts = _counts(guest.check("image-loop").stdout)
    assert counts.keys() == {"mounted", "measure", "swaps"}
    assert counts["mounted"] + counts["measure"] == ATTEMPTS
    assert counts["swaps"] > ATTEMPTS


def test_the_objects_swapped_in_a_loop(guest: LazyResults) -> None:
    counts = _counts(guest.check("objects-loop").stdout)
    assert counts["mounted"] > 0
    assert counts["swaps"] > ATTEMPTS
