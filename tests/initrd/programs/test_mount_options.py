# SPDX-License-Identifier: Apache-2.0 OR MIT
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.kernel import mounting
from pyinit.initrd.programs import mount_options
from pyinit.initrd.programs.mount_options import MountOptions, parse_command, parse_helper
from pyinit.initrd.report.errors import UsageError
from pyinit.initrd.root.digest import Digest
from tests.initrd.harness import MALFORMED, any_text, digests, is_one_printable_line, no_disk

D = "d1" * 32
BASE = ["--object-store", "/s", "--digest", D]
Parse = Callable[[list[str]], MountOptions]

WORDS = (
    *("--object-store", "--digest", "--image", "--upperdir", "--workdir", "--verity", "--ro"),
    *("--rw", "--dry-run", "--json", "--verbose", "-v", "--", "-", "-o", "-N", "-t", "-sfnv", "-f"),
    *("", "/s", "/t", "off", "require", D, f"--digest={D}", "--verity=off", "--object-store=/s"),
    *("--name", "--name=a-b", "name=a.b", "name=A"),
    *(f"digest={D}", f"ro,digest={D},upperdir=/u,workdir=/w", "rw", "nosuid,,x-a=b,defaults"),
)
any_arguments = st.lists(st.sampled_from(WORDS) | any_text, max_size=12)


def wrong(parse: Parse, *arguments: str) -> str:
    with pytest.raises(UsageError) as caught, no_disk():
        parse(list(arguments))
    assert caught.value.step == "usage"
    return f"{caught.value.path}: {caught.value.found}"


@given(st.sampled_from([parse_command, parse_helper]), any_arguments)
def test_any_strings_are_options_or_a_usage_error(parse: Parse, arguments: list[str]) -> None:
    before = list(arguments)
    try:
        with no_disk() as said:
            found, fault = parse(arguments), ""
    except UsageError as error:
        found, fault = None, str(error)
    if found is None:
        assert is_one_printable_line(fault)
    else:
        assert isinstance(found.digest, Digest) != (found.name is not None)
        assert found.store or found.name
        assert found.target
        assert found.verity in ("require", "off")
        assert found.image != ""
        assert (found.upperdir is None) == (found.workdir is None)
        assert found.writable in (True, False)
        assert not found.writable or found.upperdir
        assert bool(found.attributes & mounting.RDONLY) == (not found.writable)
    assert said == {1: "", 2: ""}
    assert arguments == before


def test_defaults() -> None:
    found = parse_command([*BASE, "/t"])
    assert (found.store, found.target, found.digest) == ("/s", "/t", Digest.parse(D, ""))
    assert (found.image, found.upperdir, found.workdir) == (None, None, None)
    assert (found.verity, found.writable, found.attributes) == ("require", False, mounting.RDONLY)
    assert (found.dry_run, found.json, found.verbose) == (False, False, False)


def test_by_name() -> None:
    less = mounting.NOSUID | mounting.NODEV
    found = parse_command(["--name", "a-b.c", "/t"])
    assert (found.name, found.digest, found.store, found.target) == ("a-b.c", None, "", "/t")
    assert found.attributes == mounting.RDONLY | less
    found = parse_command(["--name=a", "--object-store=/s", "--upperdir=/u", "--workdir=/w", "/t"])
    assert (found.store, found.writable, found.attributes) == ("/s", True, less)
    found = parse_helper(["/s", "/t", "-o", "name=a"])
    assert (found.name, found.store, found.attributes) == ("a", "/s", mounting.RDONLY | less)
    found = parse_helper(["/s", "/t", "-o", "suid,name=a,dev"])
    assert found.attributes == mounting.RDONLY
    # What is there decides.
    assert parse_helper(["/s", "/t", "-o", "remount,name=a"]).attributes == 0


@pytest.mark.parametrize(
    "arguments", [["--digest", D], ["--image=/i"], ["--verity=off"], ["--verity", "off"]]
)
def test_a_name_alone_says_which_image(arguments: list[str]) -> None:
    words = "--name: not together with digest, image or verity=off"
    assert wrong(parse_command, "--name=a", *arguments, "/t") == words
    option = ",".join(arguments).replace("--digest,", "digest=").replace("--verity,", "verity=")
    found = wrong(parse_helper, "/s", "/t", "-o", "name=a," + option.replace("--", ""))
    assert found == words[2:]


@pytest.mark.parametrize("name", ["A", "a/b", "..", "-a", "a.raw", "a" * 65, "\n"])
def test_what_is_no_name(name: str) -> None:
    assert wrong(parse_command, f"--name={name}", "/t") == f"--name: {name!r}"
    if name != "a/b":
        assert wrong(parse_helper, "/s", "/t", "-o", f"name={name}") == f"name: {name!r}"


# A value may look like an option: it is the value all the same.
values = any_text.filter(bool)


@given(
    st.fixed_dictionaries(
        {"object-store": values, "digest": digests.map(str)},
        optional={"image": values, "verity": st.sampled_from(["require", "off"])},
    ),
    st.none() | st.tuples(values, values),
    st.sets(st.sampled_from(["--ro", "--dry-run", "--json", "--verbose"])),
    any_text.filter(lambda text: bool(text) and not text.startswith("-")),
    st.randoms(use_true_random=False),
)
def test_any_order_and_both_spellings_say_the_same(
    given: dict[str, str],
    upper: tuple[str, str] | None,
    flags: set[str],
    target: str,
    chance: random.Random,
) -> None:
    if upper is not None:
        given = {**given, "upperdir": upper[0], "workdir": upper[1]}
    words = [[flag] for flag in sorted(flags)] + [[target]]
    for name, value in given.items():
        words.append([f"--{name}={value}"] if chance.random() < 0.5 else [f"--{name}", value])
    chance.shuffle(words)
    found = parse_command([word for group in words for word in group])
    assert (found.store, found.target) == (given["object-store"], target)
    assert str(found.digest) == given["digest"]
    assert (found.image, found.verity) == (given.get("image"), given.get("verity", "require"))
    assert (found.upperdir, found.workdir) == (given.get("upperdir"), given.get("workdir"))
    assert found.writable == (upper is not None and "--ro" not in flags)
    assert [found.dry_run, found.json, found.verbose] == [
        flag in flags for flag in ("--dry-run", "--json", "--verbose")
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "TARGET: 0 arguments"),
        (["/a", "/b"], "TARGET: 2 arguments"),
        ([""], "TARGET: an empty value"),
        (["/t"], "--object-store: missing"),
        (["--object-store", "/s", "/t"], "--digest: missing"),
        (["--object-store"], "--object-store: its value is missing"),
        (["--object-store", ""], "--object-store: an empty value"),
        (["--object-store="], "--object-store: an empty value"),
        ([*BASE, "--digest", D, "/t"], "--digest: given twice"),
        ([*BASE, "--object-store=/s", "/t"], "--object-store: given twice"),
        ([*BASE, "--image=", "/t"], "--image: an empty value"),
        ([*BASE, "--verity=on", "/t"], "--verity: 'on'"),
        ([*BASE, "--verity", "OFF", "/t"], "--verity: 'OFF'"),
        ([*BASE, "--verity", "", "/t"], "--verity: an empty value"),
        ([*BASE, "--ro", "--rw", "/t"], "--rw: --ro and --rw exclude"),
        ([*BASE, "--rw", "--ro", "/t"], "--ro: --ro and --rw exclude"),
        ([*BASE, "--ro=yes", "/t"], "--ro: takes no value"),
        ([*BASE, "--json=", "/t"], "--json: takes no value"),
        ([*BASE, "--rw", "/t"], "--rw: nothing to write to"),
        ([*BASE, "--upperdir", "/u", "/t"], "--upperdir: upperdir and workdir belong together"),
        ([*BASE, "--workdir", "/w", "/t"], "--upperdir: upperdir and workdir belong together"),
        ([*BASE, "--object", "/t"], "--object: unknown option"),
        ([*BASE, "-vv", "/t"], "-vv: unknown option"),
        ([*BASE, "-", "/t"], "-: unknown option"),
    ],
)
def test_what_is_wrong(arguments: list[str], words: str) -> None:
    assert words in wrong(parse_command, *arguments)


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_digests(text: str) -> None:
    assert "--digest: " in wrong(parse_command, "--object-store", "/s", "--digest", text, "/t")
    assert "--digest: " in wrong(parse_command, "--object-store", "/s", f"--digest={text}", "/t")
    assert wrong(parse_helper, "/s", "/t", "-o", f"digest={text}").startswith("digest: ")


def test_after_two_dashes_all_are_targets() -> None:
    assert parse_command([*BASE, "--", "--json"]).target == "--json"
    assert "TARGET: 2 arguments" in wrong(parse_command, *BASE, "--", "--", "x")


# What is not there cannot be switched on by a command line by accident.
def test_no_option_is_abbreviated() -> None:
    for name in ("--digest", "--verity", "--object-store", "--image", "--upperdir", "--workdir"):
        assert name in mount_options.USAGE
        assert "unknown option" in wrong(parse_command, *BASE, f"{name[:-1]}=x", "/t")


@pytest.mark.parametrize(
    ("option", "attribute"),
    [
        ("nosuid", mounting.NOSUID),
        ("nodev", mounting.NODEV),
        ("noexec", mounting.NOEXEC),
        ("noatime", mounting.NOATIME),
        ("nodiratime", mounting.NODIRATIME),
        ("strictatime", mounting.STRICTATIME),
        ("nosymfollow", mounting.NOSYMFOLLOW),
        ("relatime", 0),
        # who lets users mount it trusts it less
        ("user", mounting.NOEXEC | mounting.NOSUID | mounting.NODEV),
        ("user=me", mounting.NOEXEC | mounting.NOSUID | mounting.NODEV),
        ("users", mounting.NOEXEC | mounting.NOSUID | mounting.NODEV),
        ("owner", mounting.NOSUID | mounting.NODEV),
        ("group", mounting.NOSUID | mounting.NODEV),
        # the last word counts
        ("nosuid,suid", 0),
        ("suid,nosuid", mounting.NOSUID),
        ("nodev,dev,noexec,exec,nosymfollow,symfollow,nodiratime,diratime", 0),
        ("noatime,strictatime", mounting.STRICTATIME),
        ("strictatime,noatime", mounting.NOATIME),
        ("noatime,atime", 0),
        ("strictatime,nostrictatime", 0),
        ("noatime,relatime", 0),
        ("users,exec", mounting.NOSUID | mounting.NODEV),
    ],
)
def test_mount_attributes(option: str, attribute: int) -> None:
    found = parse_helper(["/s", "/t", "-o", f"{option},digest={D}"])
    assert found.attributes == attribute | mounting.RDONLY


@pytest.mark.parametrize("letters", ["-sfnv", "-vnfs"])
def test_as_mount_calls_its_helper(letters: str) -> None:
    options = ["-t", "cfs", "-o", f"rw,odd,digest={D}", "-o", "ro"]
    found = parse_helper(["/s", "/t", letters, *options])
    assert (found.store, found.target, str(found.digest)) == ("/s", "/t", f"sha256:{D}")
    assert (found.dry_run, found.verbose, found.writable, found.json) == (True, True, False, False)


def test_a_dash_is_a_name_to_the_helper() -> None:
    found = parse_helper(["-", "/t", "-o", f"digest={D}"])
    assert (found.store, found.target) == ("-", "/t")


def test_fstab_words_of_others_are_passed_over() -> None:
    words = (
        "defaults,noauto,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,comment=a,,nouser,"
        "lazytime,nolazytime,mand,nomand,iversion,noiversion,sync,dirsync,async,silent,loud"
    )
    assert parse_helper(["/s", "/t", "-o", f"{words},digest={D}"]).attributes == mounting.RDONLY


def test_writable_through_the_helper() -> None:
    upper = f"digest={D},upperdir=/u,workdir=/w"
    assert parse_helper(["/s", "/t", "-o", upper]).writable is True
    assert parse_helper(["/s", "/t", "-o", upper + ",ro"]).attributes == mounting.RDONLY
    assert parse_helper(["/s", "/t", "-o", upper + ",ro,rw"]).attributes == 0


def test_the_rw_that_mount_always_adds_is_no_wish() -> None:
    found = parse_helper(["/s", "/t", "-o", f"rw,nosuid,digest={D}"])
    assert found.writable is False
    assert found.attributes == mounting.NOSUID | mounting.RDONLY


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "mount.cfs: 0 arguments"),
        (["/s"], "mount.cfs: 1 arguments"),
        (["/s", "/t", "/u"], "mount.cfs: 3 arguments"),
        (["", "/t"], "STORE: an empty value"),
        (["/s", ""], "DIR: an empty value"),
        (["/s", "/t"], "digest: missing"),
        (["/s", "/t", "-o"], "-o: its value is missing"),
        (["/s", "/t", "-N", "1"], "-N: mounting in another namespace is not supported"),
        (["/s", "/t", "-x"], "-x: unknown option"),
        (["/s", "/t", "-sfo", "ro"], "-o: unknown option"),
        (["/s", "/t", "--help"], "--: unknown option"),
        (["/s", "/t", "-o", "digest"], "digest: its value is missing"),
        (["/s", "/t", "-o", "digest="], "digest: an empty digest"),
        (["/s", "/t", "-o", f"digest={D},digest={D}"], "digest: given twice"),
        (["/s", "/t", "-o", f"digest={D},verity=on"], "verity: 'on'"),
        (["/s", "/t", "-o", f"digest={D},upperdir=,workdir=/w"], "upperdir: an empty value"),
        (["/s", "/t", "-o", f"digest={D},remount=1"], "remount: unknown mount option"),
        (["/s", "/t", "-o", f"digest={D},bind"], "bind: no matter of this file system"),
        (["/s", "/t", "-o", f"digest={D},move"], "move: no matter of this file system"),
        (["/s", "/t", "-o", f"digest={D},context=x"], "context: not supported: files have the"),
        (["/s", "/t", "-o", f"digest={D},rootcontext=x"], "rootcontext: not supported"),
        (["/s", "/t", "-o", f"digest={D},upperdir=/u,workdir=/w,sync"], "sync: what is written"),
        (["/s", "/t", "-o", f"digest={D},upperdir=/u,workdir=/w,rw,dirsync"], "dirsync: what"),
        (["/s", "/t", "-o", f'digest={D},image="a,b'], "-o: a quotation mark without its second"),
        (["/s", "/t", "-o", "remount,upperdir=/u"], "upperdir: upperdir and workdir belong"),
        (["/s", "/t", "-o", "remount,image=/i"], "image: a remount does not look at it"),
        (["/s", "/t", "-o", f"digest={D},insecure=1"], "insecure: unknown mount option"),
        (["/s", "/t", "-o", f"digest={D},ro=1"], "ro: unknown mount option"),
        (["/s", "/t", "-o", f"digest={D},nosuid=1"], "nosuid: unknown mount option"),
    ],
)
def test_what_is_wrong_for_the_helper(arguments: list[str], words: str) -> None:
    assert wrong(parse_helper, *arguments).startswith(words)


@pytest.mark.parametrize(
    ("option", "image"),
    [
        ('image="/a,b"', "/a,b"),
        ('"image=/a,b"', "/a,b"),
        ('image=/a","b', "/a,b"),
        ("image=/a\\,b", "/a,b"),
        ('image=/a\\"b', '/a"b'),
        ('image="/a\\",b"', '/a",b'),
        ('image="/a\\,b"', "/a\\,b"),
        ("image=/a\\b\\", "/a\\b\\"),
        ("image=/a\\\\,b", "/a\\,b"),
        ('image=/a""', "/a"),
    ],
)
def test_values_are_quoted_as_libmount_has_it(option: str, image: str) -> None:
    found = parse_helper(["/s", "/t", "-o", f"nosuid,digest={D}", "-o", f"{option}"])
    assert found.image == image
    found = parse_helper(["/s", "/t", "-o", f"nosuid,{option.rstrip(chr(92))},digest={D},nodev"])
    assert found.image == image.rstrip("\\")
    assert found.attributes == mounting.NOSUID | mounting.NODEV | mounting.RDONLY


@given(st.lists(any_text.filter(lambda text: "\\" not in text), min_size=1))
def test_whatever_is_quoted_is_read_back(values: list[str]) -> None:
    quoted = ['"' + value.replace('"', '\\"') + '"' for value in values]
    assert mount_options._split(",".join(quoted)) == values


@pytest.mark.parametrize(
    ("options", "writable", "attributes", "cleared"),
    [
        ("remount", None, 0, 0),
        ("ro,remount,nosuid", False, mounting.NOSUID, 0),
        ("rw,remount,suid", True, 0, mounting.NOSUID),
        ("remount,bind,noatime,nosuid,suid", None, mounting.NOATIME,
         mounting.ATIME | mounting.NOSUID),
        ("remount,strictatime", None, mounting.STRICTATIME, mounting.ATIME),
        ("remount,sync,rw", True, 0, 0),
    ],
)  # fmt: skip
def test_a_remount_says_what_is_to_change(
    options: str, writable: bool | None, attributes: int, cleared: int
) -> None:
    """And needs no digest: what is there has one."""
    found = parse_helper(["/s", "/t", "-o", options])
    assert found.remount
    assert (found.digest, found.writable) == (None, writable)
    assert (found.attributes, found.cleared) == (attributes, cleared)
    assert not parse_helper(["/s", "/t", "-o", f"digest={D}"]).remount
    # of a line of fstab, which has both: the digest is compared with what is there
    assert parse_helper(["/s", "/t", "-o", f"remount,image=/i,digest={D}"]).remount


def test_what_is_written_at_once_needs_something_to_write_to() -> None:
    upper = f"digest={D},upperdir=/u,workdir=/w,sync"
    assert parse_helper(["/s", "/t", "-o", upper + ",ro"]).attributes == mounting.RDONLY


def test_sloppy_lets_unknown_options_pass_and_nothing_else() -> None:
    assert parse_helper(["/s", "/t", "-s", "-o", f"digest={D},odd"]).store == "/s"
    assert "digest: missing" in wrong(parse_helper, "/s", "/t", "-s", "-o", "odd")
    assert "verity" in wrong(parse_helper, "/s", "/t", "-s", "-o", f"digest={D},verity=x")
