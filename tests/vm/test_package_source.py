# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Our packages as they ship: with the interpreter compiled from a second source archive.

The RPM is made by packaging/pyinit.spec and the rpmbuild that Debian has. It proves the spec: its
sources, its build without a network, its list of files. Of Fedora it proves nothing: names of
packages, macros and compiler are others there.
"""

import re
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pyinit.host.frozen import elf, source

from . import cross_package, machine
from .once import REPOSITORY

SPEC = (REPOSITORY / "packaging/pyinit.spec").read_text()
[ARCHIVE] = re.findall(r"^Source1: .*/(Python-\S+)$", SPEC, re.MULTILINE)


def test_the_source_of_the_interpreter_is_a_known_one() -> None:
    version = re.sub(r"Python-([\d.]+)\.(tar\..+)", r"\1 (.\2)", ARCHIVE)
    assert version in source.KNOWN.values()


@pytest.mark.parametrize(
    ("choice", "interpreter"), [("", "source"), ("--with libpython", "distribution")]
)
def test_rpm_reads_the_spec_with_either_interpreter(choice: str, interpreter: str) -> None:
    said = machine.run(
        machine.bare(),
        f"rpmspec {choice} --parse /source/packaging/pyinit.spec",
        {REPOSITORY: "/source"},
    )
    assert re.findall(r"--interpreter=(\w+)$", said, re.MULTILINE) == [interpreter]
    assert ("BuildRequires:  musl-gcc" in said) is (interpreter == "source")


@pytest.mark.all_only  # it compiles the interpreter
def test_the_rpm_is_built_without_a_network() -> None:
    made = machine.rpm(ARCHIVE)
    tree, binds = machine.bare(), {made: "/made"}
    files = machine.run(tree, "rpm -qlp /made/pyinit.rpm", binds).split()
    for name in (
        *("/usr/bin/cfs-mount", "/usr/bin/cfs-uki", "/usr/sbin/mount.cfs"),
        *("/usr/lib/composefs/cfs-init", "/usr/lib/systemd/system/cfs-setup-root.service"),
    ):
        assert name in files
    [notices] = [name for name in files if name.endswith("/cfs-init.notices")]
    assert notices.startswith("/usr/share/licenses/pyinit")
    about = machine.run(tree, "rpm -qp --queryformat '%{NAME} %{LICENSE}' /made/pyinit.rpm", binds)
    assert about == "pyinit (Apache-2.0 OR MIT) AND Python-2.0.1 AND MIT AND dtoa"
    said = machine.run(
        tree,
        "set -e\ncd /tmp && rm -rf unpacked && mkdir unpacked && cd unpacked\n"
        "rpm2cpio /made/pyinit.rpm | cpio -idm --quiet\n"
        "usr/lib/composefs/cfs-init cfs-mount --version\n"
        "cmp /made/built usr/lib/composefs/cfs-init\n"  # what strip would have changed
        f"grep -c '^#### musl$' .{notices}\n"
        "rm -rf /tmp/unpacked",
        binds,
    )
    assert re.fullmatch(r"cfs-mount \d\S*\n1\n", said)


@pytest.mark.all_only  # it compiles the interpreter
def test_the_deb_of_a_second_source_archive_is_built_without_a_network() -> None:
    made = machine.package_from_source(ARCHIVE)
    said = machine.run(
        machine.bare(),
        "set -e\ncd /tmp && rm -rf unpacked\n"
        "dpkg-deb -f /made/pyinit.deb Static-Built-Using\n"
        "dpkg-deb -x /made/pyinit.deb unpacked && cd unpacked\n"
        "usr/lib/composefs/cfs-init cfs-mount --version\n"
        "grep -c '^#### musl$' usr/share/doc/pyinit/copyright\n"
        "rm -rf /tmp/unpacked",
        {made: "/made"},
    )
    assert re.fullmatch(
        r"musl \(= \S+\), python3\.\d+ \(= 3\.13\.0-7\)\ncfs-mount \d\S*\n1\n", said
    )


@pytest.mark.all_only  # it compiles the interpreter, for another processor
def test_the_deb_is_cross_built_without_a_network(tmp_path: Path) -> None:
    """As debian/README.source says: all that is compiled in it is for arm64, and lintian finds what
    it finds in the native one."""
    made = cross_package.cross_package(ARCHIVE)
    [file] = made.glob("pyinit_*.deb")
    assert file.name.endswith("_arm64.deb")
    said = subprocess.run(
        ["dpkg-deb", "-f", file, "Architecture", "Static-Built-Using"],
        capture_output=True, text=True, check=True, timeout=600,
    ).stdout  # fmt: skip
    assert re.fullmatch(r"Architecture: arm64\nStatic-Built-Using: musl \(= \S+\)\n", said)
    subprocess.run(["dpkg-deb", "-x", file, tmp_path], check=True, timeout=600)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    compiled = [path for path in files if path.read_bytes().startswith(b"\x7fELF")]
    names = {path.name.partition(".")[0] for path in compiled}
    assert names == {"cfs-init", "_cfs", "_cfshost"}
    for path in compiled:
        with path.open("rb") as stream:
            assert ELFFile(stream)["e_machine"] == elf.MACHINES["aarch64"], path
    lines = (made / "lintian").read_text().splitlines()
    left = [line for line in lines if "initial-upload-closes-no-bugs" not in line]
    assert not [line for line in left if line[:2] in ("E:", "W:")]


def test_without_a_source_the_deb_is_not_built() -> None:
    """Nothing is fetched in a package build, and no other interpreter taken instead."""
    wanted = "no source of CPython in python/: see debian/"
    with pytest.raises(machine.MachineError, match=wanted) as caught:
        machine.run(
            machine.bare(),
            "rm -rf /tmp/empty; mkdir /tmp/empty; cd /tmp/empty; cp -a /source/debian .\n"
            "make -f debian/rules override_dh_auto_build",
            {REPOSITORY: "/source"},
        )
    assert "setup.py" not in str(caught.value)
