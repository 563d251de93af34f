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

from completions import generate
from pyinit import VERSION
from pyinit.host.commands import cfs_init_config, cfs_store, cfs_uki
from pyinit.initrd.programs import init, mount_options, setup_root

ROOT = Path(__file__).resolve().parents[1]
BASH = ROOT / "completions" / "cfs.bash"
HOST = {"cfs-init-config": cfs_init_config, "cfs-store": cfs_store, "cfs-uki": cfs_uki}
# A usage of one line tells what is special; these all have.
GENERIC = {"-h", "--help", "--version"}
IN_INITRD = {
    "cfs-mount": set(
        re.findall(r"(?<![\w-])--?[a-z][a-z-]*", mount_options.USAGE.partition("\n")[2])
    ),
    "mount.cfs": {f"-{letter}" for letter in "sfnvNot"} | GENERIC,
    "cfs-setup-root": {*setup_root._OPTIONS, setup_root._GIVE_UP} | GENERIC,
}


def host_parsers(command: str) -> dict[str, argparse.ArgumentParser]:
    """Verb to its parser; "" is the command's own."""
    parser = HOST[command]._parser()
    [action] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return {"": parser, **action.choices}


def of_parser(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def manual(page: str) -> str:
    return (ROOT / "man" / page).read_text()


def of_manual(command: str) -> set[str]:
    """The options that have a place of their own."""
    found = set()
    for line in re.findall(r"^\.It (Fl .*)$", manual(f"{command}.8"), re.MULTILINE):
        found |= {f"-{name}" for name in re.findall(r"Fl (\S+)", line)}
    return found


def host_verbs() -> list[tuple[str, str]]:
    return [(command, verb) for command in HOST for verb in host_parsers(command)]


@pytest.mark.parametrize("command", IN_INITRD)
def test_of_the_initrd(command: str) -> None:
    expected = IN_INITRD[command]
    assert len(expected) > 4
    assert of_manual(command) == expected
    assert generated(command) == expected


@pytest.mark.parametrize("command", HOST)
def test_of_the_host(command: str) -> None:
    parsers = host_parsers(command)
    assert of_manual(command) == set().union(*map(of_parser, parsers.values()))
    verbs = list(filter(None, parsers))
    listed = re.findall(
        r"^\.It Cm ([a-z-]+)(?: Op Ar VERB)?$", manual(f"{command}.8"), re.MULTILINE
    )
    assert listed == verbs
    synopsis = re.findall(r"^\.Cm ([a-z-]+)$", manual(f"{command}.8"), re.MULTILINE)
    assert set(synopsis) == set(verbs)


# ---- completions


def generated(command: str, verb: str = "") -> set[str]:
    """The options that the completions know."""
    [found] = [
        content
        for name, of, content in generate._with_verbs(generate.commands())
        if (name, of) == (command, verb)
    ]
    return {name for option in found.options for name in option.names}


def test_the_files_are_what_is_generated() -> None:
    commands = generate.commands()
    for name, text in ((generate.BASH, generate.bash), (generate.ZSH, generate.zsh)):
        committed = (generate.DIRECTORY / name).read_text()
        assert committed == text(commands), "make completions"


@pytest.mark.parametrize(("command", "verb"), host_verbs())
def test_completion_of_a_verb(command: str, verb: str) -> None:
    assert generated(command, verb) == of_parser(host_parsers(command)[verb])


def test_each_value_of_the_host_is_of_a_known_kind() -> None:
    """A new metavar has its place in a table of the generator."""
    unknown = set()
    for command, verb, content in generate._with_verbs(generate.commands()):
        if command in HOST:
            for option in content.options:
                if option.value == generate.UNKNOWN:
                    unknown.add((command, verb, option.names[-1]))
            # An image is named by its digest, or by a name in the store.
            if (command, verb) != ("cfs-store", "rm"):
                assert generate.UNKNOWN not in content.operands, (command, verb)
    assert unknown == {
        ("cfs-store", "add", "--name"),
        ("cfs-store", "image", "--check-with"),
        ("cfs-store", "image", "--exclude"),
        ("cfs-store", "image", "--name"),
        ("cfs-store", "image", "--platform"),
        ("cfs-store", "gc", "--keep"),
        ("cfs-store", "gc", "--grace"),
        ("cfs-uki", "seal", "--digest"),
        ("cfs-uki", "payload", "--digest"),
        *(
            ("cfs-uki", verb, f"--{kind}")
            for verb in ("seal", "payload")
            for kind in ("sysext", "confext", "app", "initrd")
        ),
        ("cfs-uki", "predict", "--digest"),
        ("cfs-uki", "predict", "--phase"),
        ("cfs-uki", "predict", "--profile"),
    }


@pytest.mark.parametrize("command", [*HOST, *IN_INITRD])
def test_each_option_is_explained(command: str) -> None:
    for name, verb, content in generate._with_verbs(generate.commands()):
        assert name != command or all(option.about for option in content.options), verb


def test_the_options_of_a_usage() -> None:
    usage = (
        "usage: x [--root SPEC | --soft DIGEST] [-fn] [--config FILE] [--how a|b] DIR TARGET\n"
        "       x --give-up\n\n  -c, --config FILE  the file (there): read\n  --root SPEC\n"
    )
    command = generate._of_usage("x", usage)
    assert {(option.names, option.value) for option in command.options} == {
        (("--root",), "NONE"), (("--soft",), "NONE"), (("-c", "--config"), "FILE"),
        (("--how",), "a b"), (("--give-up",), ""), (("-h", "--help"), ""), (("--version",), ""),
    }  # fmt: skip
    assert command.operands == ("DIR", "DIR")
    zsh = generate.zsh([command])
    assert "'(-c --config)--config=[the file]:value:_files'" in zsh
    assert "'--how=[]:value:(a b)'" in zsh


def complete(line: str, breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """What bash offers at the end of `line`: the words that take the place of the last one, as
    readline breaks words."""
    marks = re.escape(breaks.strip() or "\0")
    words = re.findall(rf"[{marks}]|[^\s{marks}]+", line)
    words += [""] * (line[-1:].isspace())
    script = (
        f". {BASH}; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE={line!r}; COMP_POINT={len(line)}; COMP_WORDBREAKS=$BREAKS; "
        f"_cfs {words[0]!r} {words[-1]!r} {words[-2]!r}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=600, cwd=ROOT,
        env={"BREAKS": breaks, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cfs-uki s", ["seal", "show"]),
        ("/usr/bin/cfs-uki s", ["seal", "show"]),
        ("cfs-uki help s", ["seal", "show"]),
        ("cfs-uki --v", ["--version"]),
        ("cfs-uki seal --r", ["--replace"]),
        ("cfs-store add --verity r", ["require"]),
        ("cfs-store add --verity=", ["auto", "require", "off"]),
        ("cfs-mount --verity ", ["require", "off"]),
        ("cfs-mount --verity=", ["require", "off"]),
        ("cfs-mount --json --verity=r", ["require"]),
        ("cfs-mount --digest 8", []),
        ("cfs-mount --json=", []),
        ("cfs-mount --object-store csr", ["csrc"]),
        ("cfs-mount --object-store=csrc/run", ["csrc/runtime"]),
        ("cfs-mount --image=pyp", ["pyproject.toml"]),
        ("cfs-mount pyp", []),
        ("mount.cfs /a /b -o dig", ["digest="]),
        ("mount.cfs /a /b -o ro,dig", ["ro,digest="]),
        ("mount.cfs /a /b -o digest=8c,ve", ["8c,verity="]),
        ("mount.cfs /a /b -o digest=8c,verity=", ["require", "off"]),
        ("mount.cfs /a /b -o image=pyp", ["pyproject.toml"]),
        ("cfs-init-config check pyp", ["pyproject.toml"]),
        ("cfs-seal-disk --v", ["--vm", "--version"]),
        ("cfs-seal-disk --vm csr", ["csrc"]),
        ("cfs-seal-disk pyp", ["pyproject.toml"]),
    ],
)
def test_bash_offers(line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_bash_that_does_not_break_words_at_an_equals_sign() -> None:
    assert complete("cfs-mount --verity=r", " \t\n") == ["--verity=require"]
    assert complete("mount.cfs /a /b -o ro,ver", " \t\n") == ["ro,verity="]


def test_every_key_of_the_configuration_is_explained() -> None:
    schema = json.loads((ROOT / "pyinit/host/config/setup-root-conf.schema.json").read_text())
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


@pytest.mark.parametrize(
    ("argument", "said"),
    [(word, "usage: cfs-seal-disk [--vm TREE] DISK") for word in ("-h", "--help", "help")]
    + [("--version", f"cfs-seal-disk {VERSION}")],
)
def test_seal_disk_answers(argument: str, said: str, tmp_path: Path) -> None:
    program = tmp_path / "cfs-store"
    program.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo cfs-store {VERSION}\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", ROOT / "dracut-module/mkosi/cfs-seal-disk", argument],
        capture_output=True, text=True, check=True, timeout=600,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{said}\n", "")


def test_the_command_line_of_init() -> None:
    [line] = re.findall(r"`init` reads (.*?),\s+loads", (ROOT / "README.md").read_text(), re.DOTALL)
    listed = re.findall(r"^\.It Cm ([a-z.]+)", manual("cfs-init.8"), re.MULTILINE)
    assert listed == re.findall(r"`([a-z.]+)=?`", line)


def words_of(page: str) -> set[str]:
    """The words of a command line, or mount options, that a page has in its type for them."""
    found: set[str] = set()
    for macro in re.findall(r"^\.(?:It )?Cm (.*)$", manual(page), re.MULTILINE):
        found |= set(re.findall(r"[A-Za-z_][\w.*-]*", macro))
    return found


def test_every_word_that_init_knows_is_explained() -> None:
    """What it obeys, what counts once, and what it tells that it does not obey."""
    others = (*init._OF_OTHERS, *(f"{prefix}*" for prefix in init._OF_OTHERS_PREFIX))
    asked: set[str] = set()
    for path in (ROOT / "pyinit/initrd").rglob("*.py"):
        asked |= set(re.findall(r'line\.(?:first|all|has)\("([a-z._]+)"\)', path.read_text()))
    assert {*init._ONCE, "rootwait", "rootdelay", "modprobe.blacklist"} <= asked
    assert {*asked, *others} <= words_of("cfs-init.8")


def test_every_mount_option_is_explained() -> None:
    """A word that only takes another one back is explained with that."""
    options = {
        *mount_options._ATTRIBUTES, *mount_options._GENERIC, *mount_options._SYNCHRONOUS,
        *mount_options._NOT_HERE, "ro", "rw", "remount", "digest", "image", "upperdir", "workdir",
        "verity",
    }  # fmt: skip
    told = words_of("mount.cfs.8")
    opposites = {f"no{word}" for word in told} | {"loud", "_rnetdev"}
    assert options - told - opposites == set()


def test_every_command_has_a_page() -> None:
    assert {path.name for path in (ROOT / "man").iterdir()} == {
        *(f"{name}.8" for name in (*HOST, *IN_INITRD, "cfs-init", "cfs-mountd", "cfs-seal-disk")),
        "setup-root-conf.toml.5",
    }  # fmt: skip
