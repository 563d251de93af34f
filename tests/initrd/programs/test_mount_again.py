# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is said of a root that is mounted already, and what a remount changes of it."""

import _cfs
import errno
import os
from collections.abc import Callable

import pytest

from pyinit.initrd.kernel.mounting import ATIME, NOATIME, NOEXEC, NOSUID, RDONLY
from pyinit.initrd.programs import mount_again
from pyinit.initrd.programs.mount_options import parse_helper
from pyinit.initrd.report.errors import CfsError, Refused, UsageError
from pyinit.initrd.root import existing
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.existing import Existing

D, OTHER = "d1" * 32, "d2" * 32
DIRECTORY = 9  # what is mounted, as it was opened
Make = Callable[..., Existing]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Make:
    """What is mounted, sealed as a rule; `name` is that of a path here."""
    monkeypatch.setattr(mount_again, "open_directory", lambda path: path)
    monkeypatch.setattr(existing, "name", lambda path: f"name of {path}")

    def make(upper: str | None = None, verity: str = "require", options: str = "ro") -> Existing:
        found = Existing.__new__(Existing)
        found.digest, found.directory = Digest.parse(D, ""), DIRECTORY
        found.upper = None if upper is None else f"name of {upper}"
        found.verity, found.options = verity, options.split(",")
        monkeypatch.setattr(existing, "at", lambda _: found)
        return found

    return make


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Arguments of mount_setattr."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(_cfs, "mount_set", lambda *arguments: calls.append(arguments))
    return calls


UPPER = "upperdir=/u,workdir=/w"


@pytest.mark.parametrize(
    ("options", "upper", "verity", "refused"),
    [
        (f"digest={D}", None, "require", ""),
        (f"digest={D},image=/i,nosuid", None, "require", ""),
        (f"digest={D},{UPPER}", "/u", "require", ""),
        (f"digest={D},verity=off", None, "off", ""),
        (f"digest={D},verity=off,{UPPER}", "/u", "off", ""),
        (f"digest={D},verity=off", None, "require", ""),  # more than was asked for
        (f"digest={OTHER}", None, "require", f", expected sha256:{OTHER}"),
        (f"digest={OTHER},verity=off", None, "off", f", expected sha256:{OTHER}"),
        (f"digest={D}", None, "off", ", unchecked, expected verity=require"),
        (f"digest={D}", "/u", "require", ", with an upper layer, expected none"),
        (f"digest={D},{UPPER}", None, "require",
         ", without an upper layer, expected the upper directory /u"),
        (f"digest={D},{UPPER}", "/v", "require",
         ", with another upper directory, expected the upper directory /u"),
    ],
)  # fmt: skip
def test_mounted_again(
    there: Make, options: str, upper: str | None, verity: str, refused: str
) -> None:
    """As `mount -a` does. Another image or another upper layer is named."""
    wanted = parse_helper(["/s", "/t", "-o", options])
    said = ""
    try:
        mount_again.check_same(wanted, there(upper, verity))
    except Refused as error:
        said = str(error)
    start = f"refused: attach: /t: sha256:{D} is mounted there already"
    assert said == (start + refused if refused else "")


def test_less_rights_than_there_are_is_told(there: Make, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = parse_helper(["/s", "/t\n", "-o", f"nosuid,nosymfollow,noatime,digest={D}"])
    mount_again.warn_of_attributes("x", wanted, there(options="ro,nosuid,nosymfollow,relatime"))
    assert capfd.readouterr().err == ""
    mount_again.warn_of_attributes("x", wanted, there(options="rw,nodev"))
    words = "ro,nosuid,nosymfollow"
    assert capfd.readouterr().err == (
        f"x: warning: /t\\n is mounted already, without {words}: mount -o remount,{words}\n"
    )


@pytest.mark.parametrize(
    ("options", "upper", "attributes"),
    [
        ("rw,remount,nosuid", None, (NOSUID, 0)),  # rw is what mount(8) says
        (f"rw,remount,digest={D},suid,noexec", None, (NOEXEC, NOSUID)),
        ("remount,bind,noatime", None, (NOATIME, ATIME)),
        ("remount,noatime,relatime", None, (0, ATIME)),
        ("rw,remount,suid", None, (0, NOSUID)),
        ("remount", None, (0, 0)),  # nobody said rw: nothing is said of it
        ("ro,remount", None, (RDONLY, 0)),
        ("ro,remount", "/u", (RDONLY, 0)),
        ("rw,remount", "/u", (0, RDONLY)),
        ("remount,nosuid", "/u", (NOSUID, 0)),
    ],
)
def test_a_remount_changes_what_is_said(
    there: Make, changed: list[tuple[object, ...]], capfd: pytest.CaptureFixture[str],
    options: str, upper: str | None, attributes: tuple[int, int],
) -> None:  # fmt: skip
    there(upper)
    said = mount_again.remount("x", parse_helper(["/s", "/t", "-o", options]))
    assert changed == [(DIRECTORY, *attributes, False)]
    assert said == f"/t (sha256:{D}) remounted"
    assert capfd.readouterr().err == ""


def test_a_dry_remount_changes_nothing(there: Make, changed: list[tuple[object, ...]]) -> None:
    there()
    said = mount_again.remount("x", parse_helper(["/s", "/t", "-f", "-o", "remount,nosuid"]))
    assert said.endswith(" would be remounted")
    assert changed == []


def test_where_there_is_nothing_to_write_to_that_is_said(
    there: Make, changed: list[tuple[object, ...]], capfd: pytest.CaptureFixture[str]
) -> None:
    there()
    mount_again.remount("x", parse_helper(["/s", "/t", "-o", "rw,remount"]))
    assert capfd.readouterr().err == (
        "x: /t stays read-only: it has no upper layer; mount it anew, with upperdir= and workdir=\n"
    )
    assert changed == [(DIRECTORY, 0, 0, False)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"rw,remount,{UPPER},sync", "sync: what is written goes to another file system"),
        ("remount,dirsync", "dirsync: what is written goes"),
        ("remount,image=/no/such", "image: a remount does not look at it, expected digest=DIGEST"),
    ],
)
def test_what_a_remount_would_not_do_is_refused(
    there: Make, changed: list[tuple[object, ...]], options: str, said: str
) -> None:
    there("/u")
    with pytest.raises(UsageError, match=said):
        mount_again.remount("x", parse_helper(["/s", "/t", "-o", options]))
    assert changed == []


@pytest.mark.parametrize(
    ("options", "upper", "said"),
    [
        (f"digest={OTHER}", None, f"is mounted there already, expected sha256:{OTHER}"),
        (f"digest={D},{UPPER}", "/v", "with another upper directory, expected"),
        (UPPER, None, "without an upper layer, expected the upper directory /u"),
    ],
)
def test_what_no_remount_changes_is_named(
    there: Make, changed: list[tuple[object, ...]], options: str, upper: str | None, said: str
) -> None:
    there(upper)
    with pytest.raises(Refused, match=f"attach: /t: .*{said}"):
        mount_again.remount("x", parse_helper(["/s", "/t", "-o", f"remount,{options}"]))
    assert changed == []


def test_only_a_composed_root_is_remounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "at", lambda _: None)
    with pytest.raises(Refused, match="attach: /t: no composed root is mounted there, expected"):
        mount_again.remount("x", parse_helper(["/s", "/t", "-o", "remount,ro"]))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EBUSY, "refused: attach: /t: files there are open for writing: .*fuser -vm /t"),
        (errno.ENOSYS, "refused: attach: /t: this kernel.* has no mount_setattr"),
        (errno.EPERM, "error: attach: /t: mount_setattr"),
    ],
)
def test_a_kernel_that_does_not_do_it(
    there: Make, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    there()
    monkeypatch.setattr(_cfs, "mount_set", fail)
    with pytest.raises(CfsError, match=said):
        mount_again.remount("x", parse_helper(["/s", "/t", "-o", "remount,ro"]))
