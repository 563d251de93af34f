# SPDX-License-Identifier: Apache-2.0 OR MIT
"""--help, the manual pages and the completions name the same verbs and options.

How the pages are formatted and the completions work in their shells is in tests/vm/test_package.py.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path

import pytest

from pyinit.host import cfs_init_config, cfs_store, cfs_uki
from pyinit.initrd import options, setup_root

ROOT = Path(__file__).resolve().parents[1]
BASH = ROOT / "completions" / "cfs.bash"
ZSH = ROOT / "completions" / "_cfs"
HOST = {"cfs-init-config": cfs_init_config, "cfs-store": cfs_store, "cfs-uki": cfs_uki}
# A usage of one line tells what is special; these all have.
GENERIC = {"-h", "--help", "--version"}
IN_INITRD = {
    "cfs-mount": set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", options.USAGE)),
    "mount.cfs": {f"-{letter}" for letter in "sfnvNot"},
    "cfs-setup-root": set(re.findall(r"--[a-z-]+", setup_root.USAGE)) | GENERIC,
}


def verbs(command: str) -> dict[str, set[str]]:
    """Verb to its options, by the parser of the command."""
    parser = HOST[command]._parser()
    [action] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return {
        name: {option for entry in verb._actions for option in entry.option_strings}
        for name, verb in action.choices.items()
    }


def manual(page: str) -> str:
    return (ROOT / "man" / page).read_text()


def of_manual(command: str) -> set[str]:
    """The options that have a place of their own."""
    found = set()
    for line in re.findall(r"^\.It (Fl .*)$", manual(f"{command}.8"), re.MULTILINE):
        found |= {f"-{name}" for name in re.findall(r"Fl (\S+)", line)}
    return found


def bash(command: str, verb: str = "") -> set[str]:
    done = subprocess.run(
        ["bash", "-c", f". {BASH}; _cfs_options {command} {verb}"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return set(done.stdout.split())


def zsh_part(start: str) -> set[str]:
    """The options of _cfs from `start` to the end of that branch or function."""
    text = ZSH.read_text()
    part = re.split(r";;|\n}", text[text.index(start) :], maxsplit=1)[0]
    found = set(re.findall(r"'(?:\([^)]*\))?\*?(--?[A-Za-z][a-z-]*)\[", part))
    for braces in re.findall(r"\{(-[^}]*)\}", part):
        found |= set(braces.split(","))
    named = {"$help": {"-h", "--help"}, "$version": {"--version"}, "$digest": {"--digest"}}
    for name, names in named.items():
        found |= names if name in part else set()
    return found


def host_verbs() -> list[tuple[str, str]]:
    return [(command, verb) for command in HOST for verb in verbs(command)]


@pytest.mark.parametrize("command", IN_INITRD)
def test_of_the_initrd(command: str) -> None:
    expected = IN_INITRD[command]
    assert len(expected) > 4
    assert of_manual(command) == expected
    assert bash(command) == expected
    functions = {"cfs-mount": "_cfs_mount()", "mount.cfs": "_cfs_helper()"}
    assert zsh_part(functions.get(command, f"  {command})")) == expected


@pytest.mark.parametrize("command", HOST)
def test_of_the_host(command: str) -> None:
    assert of_manual(command) == set().union(*verbs(command).values())
    listed = re.findall(r"^\.It Cm ([a-z-]+)$", manual(f"{command}.8"), re.MULTILINE)
    assert listed == list(verbs(command))
    synopsis = re.findall(r"^\.Cm ([a-z-]+)$", manual(f"{command}.8"), re.MULTILINE)
    assert set(synopsis) == set(verbs(command))


@pytest.mark.parametrize(("command", "verb"), host_verbs())
def test_completion_of_a_verb(command: str, verb: str) -> None:
    expected = verbs(command)[verb]
    assert bash(command, verb) == expected
    assert zsh_part(f"'{command} {verb}')") == expected


@pytest.mark.parametrize("command", HOST)
def test_completion_of_verbs(command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f". {BASH}; _cfs_verbs {command}"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.split() == list(verbs(command))
    call = re.search(rf"_cfs_verbs {command} (.*?);;", ZSH.read_text(), re.DOTALL)
    assert call
    assert re.findall(r"'([a-z-]+):", call.group(1)) == list(verbs(command))


def complete(line: str) -> list[str]:
    """What bash offers behind `line`."""
    words = line.split(" ")
    script = (
        f". {BASH}; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; "
        f"_cfs {words[0]!r} {words[-1]!r} {words[-2]!r}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=30, cwd=ROOT
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cfs-uki s", ["seal", "show"]),
        ("/usr/bin/cfs-uki s", ["seal", "show"]),
        ("cfs-uki seal --r", ["--replace"]),
        ("cfs-store add --verity r", ["require"]),
        ("cfs-mount --verity ", ["require", "off"]),
        ("cfs-mount --digest 8", []),
        ("cfs-mount --object-store csr", ["csrc"]),
        ("mount.cfs /a /b -o dig", ["digest="]),
        ("cfs-store seal pyp", ["pyproject.toml"]),
    ],
)
def test_bash_offers(line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_every_key_of_the_configuration_is_explained() -> None:
    schema = json.loads((ROOT / "pyinit/host/setup-root-conf.schema.json").read_text())
    page = manual("setup-root-conf.toml.5")
    sections = dict(
        re.findall(r"^\.Ss \[(\S+)\]\n(.*?)(?=^\.S[sh] )", page, re.DOTALL | re.MULTILINE)
    )
    assert set(sections) == set(schema["properties"])
    for name, section in schema["properties"].items():
        explained = set()
        for line in re.findall(r"^\.It Cm (.*)$", sections[name], re.MULTILINE):
            explained |= set(line.split(" , "))
        assert explained >= {key.strip() for key in section["properties"]} or name == "var"
        if name == "var":
            assert {"mount", "transient", "size", "path"} == set(section["properties"])


def test_the_command_line_of_init() -> None:
    [line] = re.findall(r"`init` reads (.*?), loads", (ROOT / "README.md").read_text(), re.DOTALL)
    listed = re.findall(r"^\.It Cm ([a-z]+)", manual("cfs-init.8"), re.MULTILINE)
    assert listed == re.findall(r"`([a-z]+)=?`", line)


def test_every_command_has_a_page() -> None:
    assert {path.name for path in (ROOT / "man").iterdir()} == {
        *(f"{name}.8" for name in (*HOST, *IN_INITRD, "cfs-init")), "setup-root-conf.toml.5",
    }  # fmt: skip
