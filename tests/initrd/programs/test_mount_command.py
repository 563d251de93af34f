# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of cfs-mount needs no composed root; the mounts themselves are tested in a guest."""

import _cfs
import errno
import json
import os
import posix
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.initrd.kernel import mounting
from pyinit.initrd.programs import mount_again, mount_command, mount_options
from pyinit.initrd.report import output
from pyinit.initrd.report.errors import EXIT_REFUSED, EXIT_SYSTEM, EXIT_USAGE, Refused, UsageError
from pyinit.initrd.root import compose, existing
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.root.existing import Existing
from pyinit.initrd.root.image import UnmeasuredImage, VerifiedImage
from tests.initrd.harness import MALFORMED, Touched, in_child, is_one_printable_line, no_disk
from tests.initrd.programs.test_mount_options import any_arguments

D = "d1" * 32
OTHER = "d1" * 31 + "d2"
NOBODY = 65534
NAMES = ("cfs-mount", "mount.cfs")


def spellings(digest: str) -> list[tuple[str, list[str]]]:
    return [
        ("cfs-mount", ["--object-store", "/s", "--digest", digest, "/"]),
        ("cfs-mount", [f"--digest={digest}", "--verity=off", "--object-store=/s", "/"]),
        ("mount.cfs", ["/s", "/", "-o", f"digest={digest}"]),
        ("mount.cfs", ["/s", "/", "-s", "-f", "-o", f"ro,verity=off,digest={digest}"]),
    ]


def is_one_line(said: str) -> bool:
    return said.endswith("\n") and is_one_printable_line(said[:-1])


# ---- before any disk -----------------------------------------------------------------------------


def test_the_ban_on_disks_works() -> None:
    with no_disk(), pytest.raises(Touched, match="stat"):
        posix.stat("/")
    with no_disk(), pytest.raises(Touched, match="store_open"):
        _cfs.store_open(-100, "/")
    for name, arguments in spellings(D):
        with no_disk(), pytest.raises(Touched, match="stat"):
            mount_command.main(name, arguments)


@pytest.mark.parametrize("digest", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_digest_is_wrong_use_before_any_disk(digest: str) -> None:
    for name, arguments in spellings(digest):
        with no_disk() as said:
            assert mount_command.main(name, arguments) == EXIT_USAGE
        assert said[1] == ""
        option = "--digest" if name == "cfs-mount" else "digest"
        assert said[2].startswith(f"{name}: error: usage: {option}: ")
        assert is_one_line(said[2])


def test_a_malformed_digest_needs_no_privileges() -> None:
    def run() -> int:
        codes = {
            mount_command.main(name, arguments)
            for digest in MALFORMED.values()
            for name, arguments in spellings(digest)
        }
        return codes.pop() if len(codes) == 1 else 98

    code, said = in_child(run, NOBODY)
    assert code == EXIT_USAGE
    lines = said.splitlines()
    assert len(lines) == len(MALFORMED) * len(spellings(""))
    for line in lines:
        option = "digest" if line.startswith("mount.cfs: ") else "--digest"
        assert f": error: usage: {option}: " in line


def test_without_privileges_the_system_is_named() -> None:
    def run() -> int:
        return mount_command.main("cfs-mount", ["--object-store", "/s", "--digest", D, "/"])

    code, said = in_child(run, NOBODY)
    assert code == EXIT_SYSTEM
    assert said.startswith("cfs-mount: error: attach: /: ")
    assert "(EPERM), expected CAP_SYS_ADMIN" in said
    assert is_one_line(said)


@given(st.sampled_from(NAMES), any_arguments | st.just(["--help"]))
def test_any_strings_end_in_one_line_or_at_the_disk(name: str, arguments: list[str]) -> None:
    parse = mount_options.parse_helper if name == "mount.cfs" else mount_options.parse_command
    code = -1
    with no_disk() as said:
        try:
            code = mount_command.main(name, arguments)
        except Touched:
            parse(arguments)  # only what is well-formed comes so far
    if code == EXIT_USAGE:
        with pytest.raises(UsageError):
            parse(arguments)
    if code == 0:
        assert arguments in (["-h"], ["--help"])
        assert (said[1] != "", said[2]) == (True, "")
    else:
        assert code in (EXIT_USAGE, -1)
        assert said[1] == ""
        assert is_one_line(said[2]) or (code == -1 and said[2] == "")


@pytest.mark.parametrize("name", NAMES)
def test_help(name: str) -> None:
    usage = mount_options.USAGE if name == "cfs-mount" else mount_options.USAGE_HELPER
    for argument in ("-h", "--help"):
        with no_disk() as said:
            assert mount_command.main(name, [argument]) == 0
        assert said == {1: usage, 2: ""}


@pytest.mark.parametrize("name", NAMES)
def test_alone_it_says_how_it_is_used(name: str) -> None:
    usage = mount_options.USAGE if name == "cfs-mount" else mount_options.USAGE_HELPER
    with no_disk() as said:
        assert mount_command.main(name, []) == EXIT_USAGE
    assert said == {1: "", 2: usage.splitlines()[0] + "\n"}


def test_0_never_says_mounted_where_nothing_was_tried() -> None:
    for word in ("-h", "--help", "--version"):
        for name, arguments in spellings(D):
            with no_disk():
                assert mount_command.main(name, [*arguments, word]) == EXIT_USAGE
    with no_disk(), pytest.raises(Touched):
        mount_command.main("cfs-mount", ["--object-store", "-h", "--digest", D, "/"])


def test_verity_off_warns_in_one_line_whatever_the_target() -> None:
    arguments = [
        "--object-store",
        "/s",
        "--digest",
        D,
        "--verity",
        "off",
        "/t\nmounted\x1b[2J\udcff",
    ]
    with no_disk() as said, pytest.raises(Touched):
        mount_command.main("cfs-mount", arguments)
    assert said[2] == (
        "cfs-mount: warning: --verity off: nothing of /t\\nmounted\\x1b[2J\\udcff is checked\n"
    )


# ---- refusals on a real disk ---------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="a mount namespace of one's own needs root")
def test_refused_with_everything_as_before(tmp_path: Path) -> None:
    store, target = tmp_path / "store", tmp_path / "target"
    (store / D[:2]).mkdir(parents=True)
    target.mkdir()
    (store / D[:2] / D[2:]).write_bytes(b"\0" * 4096)
    base = ["--object-store", str(store), "--digest"]
    image = f"{store}/{D[:2]}/{D[2:]}"
    cases = {
        f"measure: {image}: ": [*base, D, str(target)],
        f"erofs: {image}: no EROFS superblock": [*base, D, "--verity=off", str(target)],
        f"open: {store}/{OTHER[:2]}/{OTHER[2:]}: ": [*base, OTHER, str(target)],
        f"open: {tmp_path}/no: ": [*base, D, "--image", f"{tmp_path}/no", str(target)],
        f"store: {tmp_path}/no: ": ["--object-store", f"{tmp_path}/no", *base[2:], D, str(target)],
        f"attach: {tmp_path}/no: ": [*base, D, f"{tmp_path}/no"],
        f"attach: {image}: ": [*base, D, image],
    }

    def run() -> int:
        for words, arguments in cases.items():
            before = state()
            os.write(2, f"{words}\n".encode())
            if mount_command.main("cfs-mount", arguments) != EXIT_REFUSED:
                return 98
            if state() != before:
                return 97
        return 0

    code, said = in_child(run)
    assert code == 0, said
    lines = iter(line for line in said.splitlines() if "warning: --verity off" not in line)
    for words, line in zip(lines, lines, strict=True):
        assert line.startswith(f"cfs-mount: refused: {words}")


def state() -> tuple[object, ...]:
    """Mounts, mount namespace, working directory."""
    return (
        Path("/proc/self/mountinfo").read_bytes(),
        os.readlink("/proc/self/ns/mnt"),
        os.getcwd(),
        os.stat("/").st_ino,
    )


# ---- the order of the steps, with stand-ins for the kernel ---------------------------------------


class Kernel:
    """Records what is asked of it. Every image measures as D."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.mounted: Existing | None = None
        self.fail: str | None = None
        monkeypatch.setattr(_cfs, "store_open", self.step("store", (10, 11, 0)))
        monkeypatch.setattr(_cfs, "store_open_image", self.step("open", (12, "ab/cd")))
        monkeypatch.setattr(_cfs, "image_open", self.step("open --image", 13))
        monkeypatch.setattr(_cfs, "verity_measure", self.step("measure", (1, bytes.fromhex(D))))
        monkeypatch.setattr(_cfs, "image_header", self.step("header", (True, 0, False, 0, 0)))
        self.take_out = self.step("clone", 14)
        monkeypatch.setattr(mounting, "open_directory", hash)
        monkeypatch.setattr(existing, "at", lambda directory: self.mounted)
        monkeypatch.setattr(existing, "check_unused", self.check_unused)
        monkeypatch.setattr(existing, "paths", self.paths)
        monkeypatch.setattr(mount_again, "open_directory", hash)
        monkeypatch.setattr(existing, "name", str)
        monkeypatch.setattr(compose, "attach", self.step("attach", None))
        monkeypatch.setattr(compose, "detach", self.step("detach", None))
        monkeypatch.setattr(mount_command, "Stage", lambda target: self)
        monkeypatch.setattr(compose, "compose", self.compose)

    def step(self, name: str, result: object) -> Callable[..., object]:
        def call(*_arguments: object) -> object:
            if self.fail == name:
                raise Refused("check", "x", name)
            self.calls.append(name)
            return result

        return call

    def check_unused(self, layers: dict[str, int]) -> None:
        assert layers == {"/u": hash("/u"), "/w": hash("/w")}
        self.step("unused", None)()

    def paths(self, layers: tuple[int, int]) -> tuple[str, ...]:
        return tuple(f"/links/{layer}" for layer in layers)

    def mount(self, digest: str, upper: str | None = None) -> None:
        """Something lies there already."""
        self.mounted = Existing.__new__(Existing)
        self.mounted.digest, self.mounted.verity = Digest.parse(digest, ""), "require"
        self.mounted.upper = None if upper is None else str(hash(upper))
        self.mounted.options, self.mounted.directory = ["ro"], 9

    def __enter__(self) -> Self:
        self.calls.append("enter")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.calls.append("leave")

    def compose(
        self,
        stage: "Kernel",
        image: VerifiedImage,
        objects: int,
        attributes: int,
        upper: Callable[[int], tuple[int, int]] | None = None,
        upper_paths: tuple[str, ...] = (),
    ) -> compose.Root:
        if self.fail == "compose":
            raise Refused("check", "x", "compose")
        self.calls.append("compose")
        self.image, self.objects, self.attributes, self.upper = image, objects, attributes, upper
        self.upper_paths = upper_paths
        root = compose.Root()
        root.image, root.mount, root.used_loop, root.canary = image, 20, False, "usr/bin/sh"
        return root


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


BASE = ["--object-store", "/s", "--digest", D]
STEPS = ["enter", "store", "open", "measure", "header", "compose", "clone", "leave", "attach"]


def test_attached_last(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    assert mount_command.main("cfs-mount", [*BASE, "/t"]) == 0
    assert kernel.calls == STEPS
    assert type(kernel.image) is VerifiedImage
    assert (kernel.image.fd, kernel.objects, kernel.upper) == (12, 11, None)
    assert kernel.attributes == mounting.RDONLY
    assert capfd.readouterr() == ("", "")


def test_dry_run_attaches_nothing(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    assert mount_command.main("cfs-mount", [*BASE, "--dry-run", "--json", "-v", "/t"]) == 0
    assert mount_command.main("mount.cfs", ["/s", "/t", "-f", "-o", f"digest={D}"]) == 0
    assert kernel.calls == STEPS[:-1] * 2
    out, err = capfd.readouterr()
    assert json.loads(out)["mounted"] is False
    assert err == f"cfs-mount: /s/ab/cd (sha256:{D}, verity=require) would be mounted on /t\n"


def test_the_record(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    upper = ["--upperdir", "/u", "--workdir", "/w"]
    assert mount_command.main("cfs-mount", [*BASE, *upper, "--json", "-v", "/t"]) == 0
    assert kernel.upper is not None
    assert kernel.upper(0) == (hash("/u"), hash("/w"))
    assert kernel.upper_paths == (f"/links/{hash('/u')}", f"/links/{hash('/w')}")
    assert kernel.attributes == 0
    out, err = capfd.readouterr()
    assert err == f"cfs-mount: /s/ab/cd (sha256:{D}, verity=require) mounted on /t\n"
    assert json.loads(out) == {
        "digest": f"sha256:{D}",
        "verity": "require",
        "store": "/s",
        "image": "/s/ab/cd",
        "target": "/t",
        "loop": False,
        "canary": "usr/bin/sh",
        "upperdir": "/u",
        "mounted": True,
    }


def test_an_image_elsewhere_is_measured_too(kernel: Kernel) -> None:
    assert mount_command.main("cfs-mount", [*BASE, "--image", "/i", "/t"]) == 0
    assert kernel.calls == [call.replace("open", "open --image") for call in STEPS]
    wrong = ["--object-store", "/s", "--digest", OTHER, "--image", "/i", "/t"]
    kernel.calls.clear()
    assert mount_command.main("cfs-mount", wrong) == EXIT_REFUSED
    assert kernel.calls == ["enter", "store", "open --image", "measure", "leave"]


def test_verity_off_measures_nothing_and_says_so(
    kernel: Kernel, capfd: pytest.CaptureFixture[str]
) -> None:
    assert mount_command.main("cfs-mount", [*BASE, "--verity", "off", "--json", "/t"]) == 0
    assert type(kernel.image) is UnmeasuredImage
    assert "measure" not in kernel.calls
    out, err = capfd.readouterr()
    assert json.loads(out)["verity"] == "off"
    assert "warning: --verity off" in err


@pytest.mark.parametrize("step", ["store", "open", "measure", "header", "compose", "clone"])
def test_no_failure_is_attached(kernel: Kernel, step: str) -> None:
    kernel.fail = step
    assert mount_command.main("cfs-mount", [*BASE, "/t"]) == EXIT_REFUSED
    assert kernel.calls == [*STEPS[: STEPS.index(step)], "leave"]


def test_run_twice(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.mount(D)
    assert mount_command.main("cfs-mount", [*BASE, "/t"]) == 0
    assert mount_command.main("cfs-mount", [*BASE, "-v", "--json", "/t"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"digest": f"sha256:{D}", "target": "/t", "already": True}
    assert err == f"cfs-mount: sha256:{D} is mounted on /t already\n"
    upper = ["--upperdir", "/u", "--workdir", "/w"]
    assert mount_command.main("cfs-mount", [*BASE, *upper, "/t"]) == EXIT_REFUSED
    capfd.readouterr()
    kernel.mount(D, "/u")
    assert mount_command.main("cfs-mount", [*BASE, *upper, "/t"]) == 0
    assert mount_command.main("cfs-mount", [*BASE, *upper, "--ro", "/t"]) == 0
    kernel.mounted.options = ["rw"]  # type: ignore[union-attr]
    assert mount_command.main("cfs-mount", [*BASE, *upper, "--ro", "/t"]) == 0
    said = "cfs-mount: warning: /t is mounted already, without ro: mount -o remount,ro\n"
    assert capfd.readouterr().err == said
    assert mount_command.main("cfs-mount", [*BASE, "/t"]) == EXIT_REFUSED
    assert "with an upper layer" in capfd.readouterr().err
    kernel.mount(OTHER)
    assert mount_command.main("cfs-mount", [*BASE, "/t"]) == EXIT_REFUSED
    assert f"attach: /t: sha256:{OTHER} is mounted there already" in capfd.readouterr().err
    assert kernel.calls == []


def test_a_remount_composes_nothing(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel.mount(D)
    monkeypatch.setattr(_cfs, "mount_set", kernel.step("set", None))
    assert mount_command.main("mount.cfs", ["/s", "/t", "-v", "-o", "remount,nosuid"]) == 0
    assert kernel.calls == ["set"]
    assert capfd.readouterr() == ("", f"mount.cfs: /t (sha256:{D}) remounted\n")


@pytest.mark.parametrize("step", ["unused", "compose"])
def test_an_upper_layer_in_use_is_composed_into_nothing(kernel: Kernel, step: str) -> None:
    kernel.fail = step
    upper = ["--upperdir", "/u", "--workdir", "/w"]
    assert mount_command.main("cfs-mount", [*BASE, *upper, "/t"]) == EXIT_REFUSED
    assert ("unused" in kernel.calls) == (step == "compose")
    assert "compose" not in kernel.calls


def test_without_proc_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stat(path: str, **_more: object) -> os.stat_result:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(posix, "stat", stat)
    assert mount_command.main("cfs-mount", [*BASE, "/t"]) == EXIT_SYSTEM
    said = capfd.readouterr().err
    assert said.startswith("cfs-mount: error: attach: /proc/self: No such file")
    assert said.endswith("mount -t proc proc /proc\n")


def test_no_root_stays_where_its_record_could_not_be_written(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(_text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output, "out", full)
    assert mount_command.main("cfs-mount", [*BASE, "--json", "/t"]) == EXIT_REFUSED
    assert kernel.calls[-2:] == ["attach", "detach"]
    said = capfd.readouterr().err
    assert said.startswith("cfs-mount: refused: attach: standard output: No space left on device")
