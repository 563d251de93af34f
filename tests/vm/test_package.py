# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Our package as Debian 13 builds, checks, installs and uses it."""

import re
import subprocess
from pathlib import Path

import pytest

from . import machine
from .once import REPOSITORY

# Where each system looks.
EXPECTED = (
    "/usr/bin/cfs-init-config", "/usr/bin/cfs-mount", "/usr/bin/cfs-seal-disk",
    "/usr/bin/cfs-setup-root", "/usr/bin/cfs-store", "/usr/bin/cfs-uki", "/usr/sbin/mount.cfs",
    "/usr/lib/composefs/cfs-init", "/usr/lib/composefs/composefs.nvpcr",
    "/usr/lib/dracut/modules.d/90cfs/module-setup.sh",
    "/usr/lib/systemd/system/cfs-failure.service", "/usr/lib/systemd/system/cfs-mount@.service",
    "/usr/lib/systemd/system/cfs-mountd.socket", "/usr/lib/systemd/system/cfs-mountd@.service",
    "/usr/lib/systemd/system/cfs-setup-root.service",
    "/usr/lib/systemd/system/soft-reboot.target.wants/cfs-soft-reboot.service",
    "/usr/share/bash-completion/completions/cfs-uki",
    "/usr/share/bash-completion/completions/cfs-seal-disk",
    "/usr/share/cfs/mkosi/mkosi.conf", "/usr/share/cfs/mkosi/mkosi.finalize",
    "/usr/share/cfs/selinux/cfs.cil", "/usr/share/cfs/setup-root-conf.toml",
    "/usr/share/initramfs-tools/hooks/cfs",
    "/usr/share/initramfs-tools/scripts/init-top/cfs",
    "/usr/share/initramfs-tools/scripts/panic/cfs", "/usr/share/cfs/initramfs-tools/boot-script",
    "/usr/share/man/man5/setup-root-conf.toml.5.gz", "/usr/share/man/man8/cfs-init.8.gz",
    "/usr/share/man/man8/cfs-seal-disk.8.gz", "/usr/share/man/man8/mount.cfs.8.gz",
    "/usr/share/zsh/vendor-completions/_cfs",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree() -> Path:
    return machine.machine()


@pytest.fixture(scope="module")
def source() -> dict[Path, str]:
    return {REPOSITORY: "/source"}


def test_files_are_where_they_are_looked_for() -> None:
    [file] = machine.package().glob("pyinit_*.deb")
    done = subprocess.run(
        ["dpkg-deb", "-c", file], capture_output=True, text=True, check=True, timeout=600
    )
    found = {line.split()[5].removeprefix(".") for line in done.stdout.splitlines()}
    assert not set(EXPECTED) - found
    # nothing of the tests, the fuzzers, the sources
    assert not [name for name in found if re.search(r"/tests?/|/fuzz|\.c$", name)]


def test_links_of_the_pages_lead_somewhere(tree: Path) -> None:
    """README.md is for the sources: it links to them."""
    place = tree / "usr/share/doc/pyinit"
    pages = list(place.rglob("*.md"))
    assert len(pages) > 15
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(place)}: {link}"


def test_lintian_finds_no_error() -> None:
    said = (machine.package() / "lintian").read_text().splitlines()
    # There is no bug to close: nobody has asked for the package there.
    left = [line for line in said if "initial-upload-closes-no-bugs" not in line]
    assert not [line for line in left if line[:2] in ("E:", "W:")]


def test_commands_run(tree: Path) -> None:
    said = machine.run(
        tree,
        "set -e\nfor name in cfs-mount mount.cfs cfs-setup-root; do $name --version; done\n"
        "for name in cfs-store cfs-uki cfs-init-config; do $name help | head -n 1; done\n"
        "for name in cfs-store cfs-uki cfs-init-config cfs-seal-disk; do"
        " $name --version; done\n"
        "cfs-init-config check /usr/share/cfs/setup-root-conf.toml",
    )
    assert re.fullmatch(
        r"cfs-mount \d\S*\nmount\.cfs \d\S*\ncfs-setup-root \d\S*\n"
        r"usage: cfs-store .*\nusage: cfs-uki .*\nusage: cfs-init-config .*\n"
        r"cfs-store \d\S*\ncfs-uki \d\S*\ncfs-init-config \d\S*\ncfs-seal-disk \d\S*\n"
        r"(?:cfs-init-config: warning: \S+: \[(?:etc|var)\] has no mount: .*\n){2}", said,
    )  # fmt: skip


def test_mount_finds_its_helper(tree: Path) -> None:
    said = machine.run(tree, "mount -t cfs /nowhere /mnt -o digest=short; test $? = 1")
    assert said.startswith("mount.cfs: error: usage: digest: ")


def test_manual_pages(tree: Path, source: dict[Path, str]) -> None:
    assert not machine.run(tree, "cd /source/man && mandoc -Tlint -Wwarning *.[58]", source)


def test_shell_scripts(tree: Path, source: dict[Path, str]) -> None:
    assert not machine.run(
        tree,
        "cd /source && shellcheck dracut-module/initramfs-tools/* packaging/install.sh"
        " dracut-module/mkosi/mkosi.finalize dracut-module/mkosi/cfs-seal-disk"
        " && shellcheck -s bash completions/cfs.bash",
        source,
    )


def test_bash_loads_the_completion(tree: Path) -> None:
    said = machine.run(
        tree,
        "bash -c '. /usr/share/bash-completion/bash_completion; _comp_load cfs-uki; "
        "complete -p cfs-uki mount.cfs'",
    )
    assert said.splitlines() == ["complete -F _cfs cfs-uki", "complete -F _cfs mount.cfs"]


def test_zsh_completes(tree: Path) -> None:
    """In a terminal of its own, as a person: what is typed, then two tabs."""
    said = machine.run(
        tree,
        r"""cat >/tmp/complete.zsh <<'END'
zmodload zsh/zpty
zpty z zsh -f
zpty -w z 'PS1=; autoload -Uz compinit; compinit -u -d /tmp/zcompdump; print ready''-now'
zpty -r -m z line '*ready-now*'
zpty -w -n z $'cfs-uki seal --re\t\t'
zpty -r -m z line '*--replace*' && print found
zpty -w -n z $'\x15cfs-mount --verity=r\t'
zpty -r -m z line '*--verity=require*' && print found
zpty -d z
END
timeout 600 zsh -f /tmp/complete.zsh; rm -f /tmp/complete.zsh /tmp/zcompdump""",
    )
    assert said.split() == ["found", "found"]


def test_rpm_takes_the_spec(tree: Path, source: dict[Path, str]) -> None:
    said = machine.run(tree, "rpmspec --parse /source/packaging/pyinit.spec", source)
    assert "%files" in said
    for name in EXPECTED:
        plain = name.removesuffix(".gz").replace("vendor-completions", "site-functions")
        assert any(
            plain == line or plain.startswith(f"{line.rstrip('/')}/") or line == f"{plain}*"
            for line in re.findall(r"^(?:%\w+ )*(/\S+)$", said, re.MULTILINE)
        ), name
