# SPDX-License-Identifier: Apache-2.0 OR MIT
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.report.errors import SystemFailure, UsageError
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config


def parse(*lines: str) -> Config:
    return config.parse("".join(f"{line}\n" for line in ("cfsconf1", *lines)).encode(), "the.conf")


def error(data: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        config.parse(data, "the.conf")
    assert (caught.value.step, caught.value.path) == ("config", "the.conf")
    return str(caught.value)


def test_the_defaults_are_the_strict_ones() -> None:
    assert Config().values() == {
        "store": "/composefs",
        "uki": "compare",
        "failure": "reboot",
        "failure-delay": 10,
        "root-wait": 30,
        "root-discover": False,
        "sysroot-readonly": True,
        "volatile-root-link": False,
        "profile": "none",
        "digest-source": "carried",
        "root": "sealed",
        "etc": "transient",
        "var": "transient",
        "root-size": "50%",
        "etc-size": "50%",
        "var-size": "50%",
        "initrd-size": "50%",
        "initrd-device": "",
        "initrd-store": "",
        "state-etc": "/state/deploy/{digest}/etc",
        "state-var": "/state/deploy/{digest}/var",
        "state-missing": "create",
        "extensions-missing": "refuse",
        "state-grow": 0,
        "measure-pcr": "none",
        "measure-required": False,
        "measure-nvpcr": "",
    }
    assert parse().values() == Config().values()


def test_each_key() -> None:
    found = parse(
        "store=/ostree/repo",
        "digest-source=cmdline",
        "uki=require",
        "failure=shell",
        "failure-delay=0",
        "root-wait=3600",
        "root-discover=yes",
        "sysroot-readonly=no",
    )
    assert (found.store, found.digest_source) == ("/ostree/repo", "cmdline")
    assert (found.uki, found.failure, found.failure_delay) == ("require", "shell", 0)
    assert (found.root_wait, found.sysroot_readonly) == (3600, False)
    assert found.root_discover is True


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("verity=off", "unknown key 'verity'"),
        ("sysroot_readonly=yes", "unknown key 'sysroot_readonly'"),
        ("values=1", "unknown key"),
        ("sysroot-readonly=1", "expected yes or no"),
        ("sysroot-readonly=", "expected yes or no"),
        ("sysroot-readonly", "expected key=value"),
        ("sysroot-readonly = yes", "unknown key 'sysroot-readonly '"),
        ("profile=ostree", "profile='ostree', expected none or bootc"),
        ("digest-source=unproved", "expected carried or cmdline or any or uki"),
        ("digest-source=", "expected carried or cmdline or any or uki"),
        ("uki=yes", "expected compare or require or off"),
        ("failure=ignore", "expected reboot or poweroff or shell"),
        ("failure-delay=3601", "0 to 3600"),
        ("failure-delay=-1", "0 to 3600"),
        ("failure-delay=1_0", "0 to 3600"),
        ("failure-delay=01", "0 to 3600"),
        ("failure-delay= 1", "0 to 3600"),
        ("failure-delay=1.5", "0 to 3600"),
        ("root-wait=99999999999999999999", "0 to 3600"),
        ("root-wait=", "0 to 3600"),
        ("store=", "absolute path"),
        ("store=composefs", "absolute path"),
        ("store=/a/../b", "absolute path"),
        ("store=/a//b", "absolute path"),
        ("store=/a/", "absolute path"),
        ("store=//", "absolute path"),
        ("store=/./a", "absolute path"),
        ("failure-delay=" + "9" * 5000, "0 to 3600"),  # int() takes 4300 digits
        ("uki=/a", "expected compare or require or off"),
        ("uki=50%", "expected compare or require or off"),
        ("failure=compare", "expected reboot or poweroff or shell"),
        ("root-size=", "bytes, or 1% to 100% of the memory"),
        ("root-size=%", "bytes, or 1%"),
        ("root-size=0", "bytes, or 1%"),
        ("root-size=0%", "bytes, or 1%"),
        ("etc-size=101%", "bytes, or 1%"),
        ("etc-size=-1", "bytes, or 1%"),
        ("etc-size=1k", "bytes, or 1%"),
        (f"var-size={(1 << 62) + 1}", "bytes, or 1%"),
        ("state-etc=/{x}", "{digest} allowed"),
        ("state-etc=/{digest", "{digest} allowed"),
        ("state-var=/digest}", "{digest} allowed"),
        ("state-var=/", "{digest} allowed"),
        ("state-var=a/b", "{digest} allowed"),
        ("measure-nvpcr=9", "expected the name of an NvPCR, or nothing"),
        ("measure-nvpcr=-a", "expected the name of an NvPCR"),
        ("measure-nvpcr=-", "expected the name of an NvPCR"),
        ("measure-nvpcr=a/b", "expected the name of an NvPCR"),
        ('measure-nvpcr=a"b', "expected the name of an NvPCR"),
        ("measure-nvpcr=" + "a" * 65, "expected the name of an NvPCR"),
        ("# comment", "expected key=value"),
        ("", "expected key=value"),
    ],
)
def test_what_is_wrong(line: str, words: str) -> None:
    assert words in error(f"cfsconf1\n{line}\n".encode())


@pytest.mark.parametrize("name", ["", "composefs", "a", "A-b_9", "a" * 64])
def test_names_of_an_nvpcr(name: str) -> None:
    assert parse(f"measure-nvpcr={name}").measure_nvpcr == name


def test_only_state_is_named_by_the_digest() -> None:
    assert error(b"cfsconf1\nstore=a\n").endswith("empty, . and .. components")


def test_a_repeated_key_is_wrong_even_with_the_same_value() -> None:
    assert "uki is there twice" in error(b"cfsconf1\nuki=off\nuki=off\n")


def test_a_file_that_may_be_cut_is_wrong() -> None:
    assert "it is empty" in error(b"")
    assert "no LF" in error(b"cfsconf1\nuki=off")
    assert "first line is 'uki=off'" in error(b"uki=off\n")
    assert "byte 0x00" in error(b"cfsconf1\nuki=off\n\0")


@pytest.mark.parametrize(
    "line",
    [
        "root-size=1%", "etc-size=100%", "var-size=101", f"var-size={1 << 62}", "state-grow=0",
        "state-etc=/{digest}", "state-var=/a{digest}/{digest}", "store=/{a}",
    ],
)  # fmt: skip
def test_what_is_right(line: str) -> None:
    key, value = line.split("=")
    assert str(parse(line).values()[key]) == value


def test_root_directory_as_store() -> None:
    assert parse("store=/").store == "/"


def test_missing_empty_and_unreadable_files_differ(tmp_path: Path) -> None:
    path = tmp_path / "setup-root.conf"
    assert config.load(str(path)).values() == Config().values()
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="empty"):
        config.load(str(path))
    path.write_bytes(b"cfsconf1\nuki=off\n")
    assert config.load(str(path)).uki == "off"
    path.write_bytes(b"cfsconf1\n" + b"x" * config.MAX)
    with pytest.raises(SystemFailure, match="EFBIG"):
        config.load(str(path))
    with pytest.raises(SystemFailure, match="EISDIR"):
        config.load(str(tmp_path))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(UsageError, match="empty"):  # and no hang
        config.load(str(fifo))


@given(
    st.booleans(),
    st.sampled_from(["compare", "require", "off"]),
    st.integers(0, 3600),
    st.lists(st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True), min_size=1),
)
def test_round_trip(readonly: bool, uki: str, wait: int, store: list[str]) -> None:
    wanted = Config()
    wanted.sysroot_readonly, wanted.uki, wanted.root_wait = readonly, uki, wait
    wanted.store = "/" + "/".join(store)
    assert config.parse(config.format(wanted), "x").values() == wanted.values()


@given(st.binary(max_size=100).map(lambda tail: b"cfsconf1\n" + tail) | st.binary(max_size=100))
def test_any_bytes_are_a_configuration_or_an_error(data: bytes) -> None:
    try:
        config.parse(data, "x")
    except UsageError:
        pass
