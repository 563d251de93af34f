# SPDX-License-Identifier: Apache-2.0 OR MIT
import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.commands import cfs_init_config
from pyinit.host.config import setup_root_conf, toml_position
from pyinit.host.config.setup_root_conf import ConfigErrors
from pyinit.host.config.setup_root_tables import KEYS
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config

SCHEMA = json.loads(files("pyinit.host.config").joinpath("setup-root-conf.schema.json").read_text())
DEFAULT = files("pyinit.host.config").joinpath("setup-root-conf.toml").read_text()


def read(text: str) -> Config:
    return setup_root_conf.read(text.encode(), "the.toml")


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(text)
    return [str(error) for error in caught.value.errors]


# ---- peers' files, as they are


@pytest.mark.parametrize(
    ("text", "etc", "var", "root"),
    [
        ("", "transient", "transient", "sealed"),
        ('[etc]\nmount = "bind"\n\n[var]\nmount = "bind"\n', "bind", "bind", "sealed"),
        ('[etc]\nmount = "transient"\n[var]\nmount = "none"\n', "transient", "none", "sealed"),
        ("[etc]\ntransient = true\n", "transient", "transient", "sealed"),
        ("[root]\ntransient = true\n", "transient", "transient", "transient"),
        ("[var]\ntransient = true\n", "transient", "transient", "sealed"),
        # What mount says counts, as with composefs-setup-root.
        ('[etc]\nmount = "overlay"\ntransient = true\n', "overlay", "transient", "sealed"),
        ('[var]\nmount = "bind"\ntransient = false\n', "transient", "bind", "sealed"),
        ("etc.transient = true\n", "transient", "transient", "sealed"),
        ("root = { transient = true }\r\n", "transient", "transient", "transient"),
    ],
)
def test_files_of_peers(text: str, etc: str, var: str, root: str) -> None:
    settings = read(text)
    assert (settings.etc, settings.var, settings.root) == (etc, var, root)


def test_an_empty_file_is_the_default_of_the_initrd() -> None:
    """Both keep nothing on the disk."""
    assert read("").values() == Config().values()
    assert (read("").etc, read("").var) == ("transient", "transient")


def test_each_key() -> None:
    settings = read(
        '[root]\ntransient-ro = true\nsize = "25%"\n[etc]\nsize = "64M"\nmount = "transient"\n'
        'path = "/s/{digest}/e"\n'
        '[var]\nmount = "transient-disk"\nsize = 4096\npath = "/ostree/deploy/os/var"\n'
        '[state]\nmissing = "refuse"\ngrow = "1G"\n[digest]\nsource = "cmdline"\n'
        'uki = "off"\n[store]\npath = "/repo"\n[sysroot]\n'
        "readonly = false\nvolatile-root-link = true\n"
        '[initrd]\ndevice = "LABEL=boot"\nstore = "/other"\nsize = "1G"\n'
        '[extensions]\nmissing = "skip"\n'
        '[measure]\npcr = 15\nrequired = true\nnvpcr = "composefs"\n'
        '[failure]\naction = "poweroff"\ndelay = 0\n[device]\nwait = 3600\ndiscover = true\n'
    )
    assert settings.values() == {
        "profile": "none", "store": "/repo", "state-etc": "/s/{digest}/e",
        "state-var": "/ostree/deploy/os/var",
        "digest-source": "cmdline", "uki": "off", "failure": "poweroff", "root": "transient-ro",
        "etc": "transient", "var": "transient-disk", "state-missing": "refuse",
        "sysroot-readonly": False, "volatile-root-link": True, "failure-delay": 0,
        "root-wait": 3600, "root-discover": True, "state-grow": 1 << 30, "root-size": "25%",
        "etc-size": "67108864", "var-size": "4096", "measure-pcr": "15", "measure-required": True,
        "measure-nvpcr": "composefs",
        "extensions-missing": "skip", "initrd-device": "LABEL=boot", "initrd-store": "/other",
        "initrd-size": "1073741824",
    }  # fmt: skip
    assert config.parse(config.format(settings), "").values() == settings.values()


BOOTC = '[profile]\nname = "bootc"\n'


def test_the_profile_of_bootc() -> None:
    expected = Config()
    expected.profile, expected.digest_source, expected.state_missing = "bootc", "cmdline", "refuse"
    expected.etc, expected.var = "bind", "bind"
    assert read(BOOTC).values() == expected.values()
    assert config.parse(config.format(read(BOOTC)), "").values() == expected.values()
    assert read('[profile]\nname = "none"\n').values() == read("[profile]").values()
    assert read("[profile]").values() == read("").values()


@pytest.mark.parametrize(
    ("text", "etc", "var", "root"),
    [
        ('[etc]\nmount = "root"\n[var]\nmount = "volatile"\n', "none", "transient", "sealed"),
        ('[etc]\nmount = "volatile"\n[var]\nmount = "root"\n', "transient", "none", "sealed"),
        ('[etc]\nmount = "overlay"\n[var]\nmount = "none"\n', "overlay", "none", "sealed"),
        ("[etc]\ntransient = true\n[root]\ntransient = true\n", "transient", "bind", "transient"),
        ("[etc]\ntransient = false\n[var]\ntransient = false\n", "bind", "bind", "sealed"),
    ],
)
def test_files_of_bootc(text: str, etc: str, var: str, root: str) -> None:
    settings = read(BOOTC + text)
    assert (settings.etc, settings.var, settings.root) == (etc, var, root)


def test_what_is_written_counts_more_than_the_profile() -> None:
    settings = read(BOOTC + '[digest]\nsource = "any"\n[state]\nmissing = "create"\n')
    assert (settings.digest_source, settings.state_missing) == ("any", "create")
    assert (settings.profile, settings.etc, settings.var) == ("bootc", "bind", "bind")


# ---- what is wrong is said with its place


@pytest.mark.parametrize(
    "text",
    [
        "x=" + "[" * 2000,
        "x=" + "[" * 2000 + "]" * 2000,
        "x=" + "{a=" * 2000 + "1" + "}" * 2000,
    ],
)
def test_deep_nesting(text: str) -> None:
    [line] = errors(text)
    assert line == "error: config: the.toml: nested too deeply"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[etc]\nmuont = "bind"\n', "2:1: unknown key [etc] muont, expected mount"),
        ("[sysrot]\n", "1:2: unknown table [sysrot], expected [sysroot]"),
        ("\n  readonly = 1\n", "2:3: unknown table [readonly], expected one of"),
        ("[root]\nreadonly = true\n", "2:1: unknown key [root] readonly, expected [sysroot] read"),
        ("etc = { transiet = true }", "1:9: unknown key [etc] transiet, expected transient"),
        ('"etc"."transiet" = 1', "1:7: unknown key [etc] transiet, expected transient"),
        ('[etc]\nmount = "Bind"\n', '2:1: [etc] mount = "Bind", expected none or bind or'),
        ('[etc]\nmount = "transient-disk"\n', "2:1: [etc] mount"),
        ('[etc]\nmount = "root"\n', '2:1: [etc] mount = "root", expected none or bind or overlay'),
        ('[var]\nmount = "volatile"\n', '2:1: [var] mount = "volatile", expected none or bind'),
        ('[profile]\nname = "ostree"\n', '2:1: [profile] name = "ostree", expected none or bootc'),
        ("[profile]\nname = true\n", "2:1: [profile] name = true, expected none or bootc"),
        ("[root]\n\ntransient = 1\n", "3:1: [root] transient = 1, expected true or false"),
        ("root = 1\n", "1:1: root = 1, expected a table"),
        ("[etc]\ntransient = false\n", "2:1: [etc] transient = false, expected mount with it, as"),
        ("\nvar.transient = false\n", "2:5: [var] transient = false, expected mount with it, as"),
        ("[failure]\ndelay = 3601\n", "2:1: [failure] delay = 3601, expected 0 to 3600"),
        ("[failure]\ndelay = true\n", "2:1: [failure] delay = true"),
        ("[failure]\ndelay = 1.0\n", "2:1: [failure] delay = 1.0"),
        ('[etc]\nsize = "101%"\n', '2:1: [etc] size = "101%", expected bytes'),
        ('[etc]\nsize = "0"\n', '2:1: [etc] size = "0"'),
        ('[var]\npath = "/a/../b"\n', '2:1: [var] path = "/a/../b", expected an absolute path'),
        ('[var]\npath = "/{digset}"\n', '2:1: [var] path = "/{digset}"'),
        ('[var]\npath = "/\\u00e4"\n', "2:1: [var] path"),
        ('[var]\npath = "/a\\nstate-missing=refuse"\n', "2:1: [var] path"),
        ('[digest]\nsource = "esp"\n', '2:1: [digest] source = "esp", expected carried or'),
        ("[digest]\ncmdline = true\n", "2:1: unknown key [digest] cmdline, expected"),
        ('[canary]\nrule = "first-object"\n', "1:2: unknown table [canary], expected one of"),
        ('[measure]\nnvpcr = "9"\n', '2:1: [measure] nvpcr = "9", expected the name of an NvPCR'),
        ('[measure]\nnvpcr = "a\\n"\n', "2:1: [measure] nvpcr"),
        ("[etc\n", "1:5: Expected ']'"),
        ("[etc]\n[etc]\n", "2:"),
        ('[etc]\nmount = "a', "2:11: "),
    ],
)
def test_faults(text: str, said: str) -> None:
    [error] = errors(text)
    assert error.startswith(f"error: config: the.toml:{said}"), error


def test_all_faults_in_the_order_of_the_file() -> None:
    said = errors("[var]\nx = 1\n[etc]\nmount = 2\n[a]\n")
    assert [re.sub(r".*toml:(\d+):.*", r"\1", error) for error in said] == ["2", "4", "5"]


def test_not_utf_8() -> None:
    with pytest.raises(ConfigErrors) as caught:
        setup_root_conf.read(b"# \xff\n", "the.toml")
    assert "byte 0xff at offset 2" in str(caught.value.errors[0])


names = st.sampled_from(["etc", "mount", "a", "b-c", "_", "1", "ä", 'q"', "x.y", " "])
plain = st.sampled_from(["a = 1", '"a"', "# a\n", "etc.mount"])
trees = st.recursive(
    st.integers() | plain, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8
)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def _paths(tree: dict[str, Any]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in tree.items():
        found.append((key,))
        if isinstance(value, dict):
            found += [(key, *rest) for rest in _paths(value)]
    return found


@given(st.dictionaries(names, trees, max_size=3))
def test_the_position_is_that_of_the_key(tree: dict[str, Any]) -> None:
    text = "".join(f"# etc = a\n {json.dumps(k)} = {_toml(v)}\n" for k, v in tree.items())
    seen = set()
    for path in _paths(tree):
        line, column = toml_position.of_key(text, path)
        at = text.split("\n")[line - 1][column - 1 :]
        assert at.startswith(json.dumps(path[-1]) + " = ")
        seen.add((line, column))
    assert len(seen) == len(_paths(tree))


# ---- schema, default file and the initrd's parser say the same


def test_the_default_file_changes_nothing_and_names_every_key() -> None:
    assert read(DEFAULT).values() == read("").values()
    said = re.sub(r"^#(?=[a-z-]+ = )", "", DEFAULT, flags=re.MULTILINE)
    document = tomllib.loads(said)
    assert {table: sorted(keys) for table, keys in document.items()} == {
        table: sorted(keys) for table, keys in KEYS.items()
    }
    assert read(said).values() == read("").values()
    for table, content in SCHEMA["properties"].items():
        for key, schema in content["properties"].items():
            assert schema["default"] == document[table][key], (table, key)


def test_every_choice_of_the_initrd_is_one_of_the_schema() -> None:
    reached: dict[str, set[object]] = {key: set() for key in Config().values()}
    for table, content in SCHEMA["properties"].items():
        for key, schema in content["properties"].items():
            for value in schema.get("enum", [True, False]):
                # Some mean something there alone, or where state is kept.
                profile = BOOTC if value in ("root", "volatile", "refuse") else ""
                try:
                    found = read(f"{profile}[{table}]\n{key} = {json.dumps(value)}\n").values()
                except ConfigErrors:
                    assert "enum" not in schema
                    continue
                for name, text in found.items():
                    reached[name].add(text)
    for key, choices in config._CHOICES.items():
        assert reached[key] == set(choices), key


# ---- the command


def test_compile_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "a.toml", tmp_path / "out"
    source.write_text(DEFAULT)
    assert cfs_init_config.main(["compile", str(source), "-o", str(out)]) == 0
    assert out.read_bytes() == config.format(read(""))
    assert {line.partition(b"=")[0].decode() for line in out.read_bytes().split()[1:]} == set(
        config.KEYS
    )
    assert cfs_init_config.main(["check", str(source)]) == 0
    assert cfs_init_config.main(["compile", str(source)]) == 0
    assert capsys.readouterr().out == out.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["etc", "var"]),
        (DEFAULT, ["etc", "var"]),
        ("[etc]\n[root]\ntransient = true\n", ["etc", "var"]),
        ('[etc]\nmount = "bind"\n', ["var"]),
        ('[profile]\nname = "none"\n[var]\ntransient = true\n', ["etc"]),
        ('[etc]\ntransient = true\n[var]\nmount = "bind"\n', []),
        (BOOTC, []),
    ],
)
@pytest.mark.parametrize("verb", ["compile", "check"])
def test_who_relied_on_the_old_defaults_is_told(
    text: str, told: list[str], verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The modes of 0.1.0 kept changes on the disk, and whoever has said nothing loses them."""
    source = tmp_path / "a.toml"
    source.write_text(text)
    assert cfs_init_config.main([verb, str(source)]) == 0
    before = {"etc": "overlay", "var": "bind"}
    assert capsys.readouterr().err == "".join(
        f"cfs-init-config: warning: {source}: [{name}] has no mount: changes in /{name} are lost "
        "when the machine is switched off (version 0.1.0 kept them on the disk). Write "
        f'mount = "transient", or mount = "{before[name]}"\n'
        for name in told
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[etc]\npath = "/a"\n', "2:1: [etc] path without mount: no state would be kept there"),
        ('[var]\npath = "/a"\n', "2:1: [var] path without mount: no state would be kept there"),
        (
            '[state]\nmissing = "refuse"\n',
            '2:1: [state] missing = "refuse", but no state is kept on the disk',
        ),
    ],
)
def test_what_was_written_for_state_that_was_kept_is_refused(text: str, fault: str) -> None:
    """Such a machine would come up, and each change since the last boot would be gone."""
    with pytest.raises(ConfigErrors) as caught:
        read(text)
    [error] = caught.value.errors
    assert str(error).startswith(f"error: config: the.toml:{fault}")
    if "path" in text:
        for mode in ('mount = "bind"', 'mount = "transient"', "transient = true"):
            read(text + mode)
    else:
        read(text + '[var]\nmount = "bind"')
    read(BOOTC + text)


@pytest.mark.parametrize("profile", ["", BOOTC])
def test_an_overlay_that_leaves_no_level_is_told(profile: str) -> None:
    text = profile + '[etc]\nmount = "overlay"\n[var]\nmount = "overlay"\n'
    stacked = "is the second overlay there, and the kernel stacks two:"
    where = "on older kernels, such as 6.12 (stackable in /run/cfs/root.json)"
    assert setup_root_conf.warnings(text.encode()) == [
        f'[etc] mount = "overlay" {stacked} systemd-confext fails {where}',
        f'[var] mount = "overlay" {stacked} an overlay of a container in it fails {where}',
    ]
    for other in ("none", "bind", "transient"):
        assert setup_root_conf.warnings(text.replace("overlay", other).encode()) == []


def test_a_fault_leaves_the_output_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.toml", tmp_path / "out"
    source.write_text("[rot]\n[etc]\nmont = 1\n")
    out.write_text("old")
    assert cfs_init_config.main(["compile", str(source), "-o", str(out)]) == 1
    assert out.read_text() == "old"
    assert capsys.readouterr().err == (
        f"cfs-init-config: error: config: {source}:1:2: unknown table [rot], expected [root]\n"
        f"cfs-init-config: error: config: {source}:3:1: unknown key [etc] mont, expected mount\n"
    )
    assert cfs_init_config.main(["check", str(tmp_path / "none")]) == 2
    source.write_bytes(b"#" * 65537)
    assert cfs_init_config.main(["check", str(source)]) == 1
