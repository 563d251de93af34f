# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Commands on the pages are run, or say why they are not; and what the pages name exists."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pyinit.host.config import setup_root_conf
from pyinit.host.store.fsverity import digest_blocks
from tests.docs.blocks import DOCS, KINDS, PAGES, ROOT, Block, blocks, named, programs, run, script
from tests.host.store import written
from tests.host.uki.test_pe_write import Image

SCHEMA = json.loads((DOCS / "reference/root.schema.json").read_text())
BLOCKS = [(page, block) for page in PAGES for block in blocks(page.read_text())]


def cases(*kinds: str) -> list[Any]:
    """The blocks of these kinds."""
    return [
        pytest.param(page, block, id=f"{page.relative_to(DOCS)}:{block.line}")
        for page, block in BLOCKS
        if not kinds or block.kind in kinds
    ]


RUN = sorted({page for page, block in BLOCKS if block.run})
SHA256 = 1
# What users see of a file's place: sources that the pages send readers to.
_SOURCE = re.compile(r"`((?:pyinit|csrc|tests|fuzz|man|dracut-module|packaging)/[\w./-]*)`")


@pytest.mark.parametrize(("page", "block"), cases())
def test_a_block_says_what_becomes_of_it(page: Path, block: Block) -> None:
    assert block.kind in KINDS
    if block.kind == "sh":
        assert block.run is not None, "neither `run` nor `not run: REASON`"
        assert block.run or len(block.reason) > 10
    else:
        assert block.run is None, "only commands are run"
    for name in named(block.reason):
        assert (ROOT / name).exists(), name
    assert not re.search(r"^[$#] ", block.text, re.MULTILINE), "a prompt cannot be pasted"


@pytest.mark.parametrize(("page", "block"), cases("toml"))
def test_a_configuration_is_one(page: Path, block: Block) -> None:
    setup_root_conf.read(block.text.encode(), str(page))


@pytest.mark.parametrize(("page", "block"), cases("json"))
def test_a_record_is_one(page: Path, block: Block) -> None:
    jsonschema.validate(json.loads(block.text), SCHEMA)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of_a_page(page: Path, tmp_path: Path) -> None:
    """One after the other, with a UKI to be sealed, two images and objects."""
    path, work = tmp_path / "bin", tmp_path / "work"
    path.mkdir()
    programs(path)
    work.mkdir()
    sections = [(".text", b"code"), (".linux", b"kernel"), (".initrd", b"\x28\xb5\x2f\xfdpacked")]
    sections.append((".cmdline", b"console=ttyS0 systemd.import_credentials=no"))
    (work / "plain.efi").write_bytes(Image(sections).build())
    content = b"of a file"
    digits = digest_blocks(iter([content]), SHA256).hex
    for name in ("root.cfs", "new.cfs"):
        file = written.stored(digits, size=len(content))
        image = written.image(written.directory((name.encode(), file)))
        (work / name).write_bytes(image)
    (work / "objects" / digits[:2]).mkdir(parents=True)
    (work / "objects" / digits[:2] / digits[2:]).write_bytes(content)
    first = digest_blocks(iter([(work / "root.cfs").read_bytes()]), SHA256)
    done = run(script(page.read_text()), work, path, digest=str(first))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_pages_are_found_and_some_are_run() -> None:
    assert len(PAGES) > 15
    assert {page.stem for page in RUN} >= {"dracut", "secure-boot", "next-image", "formats"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<!-- run -->\n```sh\nfalse\n```\n", [(2, "sh", "false\n", True, "")]),
        ("<!-- not run: a disk -->\n```sh\na\nb\n```", [(2, "sh", "a\nb\n", False, "a disk")]),
        ("text\n```sh\na\n```", [(2, "sh", "a\n", None, "")]),
        ("- entry\n    goes on\n", []),
    ],
)  # fmt: skip
def test_blocks_are_taken_out(text: str, found: list[tuple[int, str, str, bool, str]]) -> None:
    assert list(blocks(text)) == [Block(*block) for block in found]


@pytest.mark.parametrize("text", ["```sh\na\n", "text\n\n    make check\n"])
def test_a_block_that_nobody_would_see(text: str) -> None:
    with pytest.raises(ValueError, match="a block without"):
        list(blocks(text))


def test_the_first_command_that_fails_ends_a_page(tmp_path: Path) -> None:
    page = "<!-- run -->\n```sh\nfalse\n```\n<!-- run -->\n```sh\ntouch later\n```\n"
    assert run(script(page), tmp_path, tmp_path).returncode == 1
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_what_a_page_names_is_there(page: Path) -> None:
    for name in _SOURCE.findall(page.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", ["dracut", "mkosi", "initramfs-tools"])
def test_a_boot_ends_with_what_success_looks_like(page: str) -> None:
    text = (DOCS / f"howto/{page}.md").read_text()
    for word in ("findmnt /", "/run/cfs/root.json", "touch /usr/x", "a refusal"):
        assert word in text


def test_nothing_that_is_pasted_asks_or_takes_a_mirror_by_chance() -> None:
    """apt-get without -y ends a paste: it reads the lines that follow as its answer."""
    readme = (DOCS.parent / "README.md").read_text()
    for text in (readme, *(block.text for _, block in BLOCKS)):
        for line in re.findall(r"^\s*apt(?:-get)? .*$", text, re.MULTILINE):
            assert re.search(r" update$| -y ", line), line
        assert "indextargets" not in text


def test_no_page_writes_a_configuration_into_the_machine_that_builds() -> None:
    """Hooks take it for a wish for that machine's own initrd."""
    for page in PAGES:
        for block in blocks(page.read_text()):
            assert not re.search(r"(?:>|[ ]tee |cp .* )\"?/usr/lib/composefs", block.text), page


def test_the_readme_fetches_lists_of_packages_before_it_installs() -> None:
    """A container has none."""
    readme = (ROOT / "README.md").read_text()
    assert re.findall(r"^ +apt-get .*$", readme, re.MULTILINE)[0].endswith(" update")


# What `cfs-uki` prints as the value of a variable, and what it predicts in a file.
_VALUE = re.compile(r"^(\w+)=\$\(cfs-uki [^()]*\)( &&)?$", re.MULTILINE)
_WRITTEN = re.compile(r"^cfs-uki predict [^\n]*>(\S+)( &&)?$", re.MULTILINE)


def unguarded(text: str) -> list[str]:
    """What goes on with nothing where `cfs-uki` refuses: another program would take that for less
    than was asked for, such as a key that is bound to nothing."""
    values = list(_VALUE.finditer(text))
    found = [match[0] for match in values if not match[2]]
    found += ["$(cfs-uki"] * (text.count("$(cfs-uki") + text.count("`cfs-uki") - len(values))
    for match in values:
        uses = re.findall(rf"\$\{{?{match[1]}\b\S*", text)
        found += [use for use in uses if not use.startswith(f"${{{match[1]}:?")]
    for match in _WRITTEN.finditer(text):
        found += [match[0]] if "/" in match[1] or not match[2] else []
    return found


@pytest.mark.parametrize(("page", "block"), cases("sh"))
def test_where_cfs_uki_refuses_nobody_goes_on(page: Path, block: Block) -> None:
    assert unguarded(block.text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a=$(cfs-uki predict x) &&\nb --pcrs="${a:?}+7"\n', []),
        ('a=$(cfs-uki predict x)\nb "${a:?}"\n', ["a=$(cfs-uki predict x)"]),
        ('a=$(cfs-uki predict x) &&\nb "$a+7"\n', ['$a+7"']),
        ('a=$(cfs-uki predict x) &&\nb "${a}+7"\n', ['${a}+7"']),
        ('b -l "$(cfs-uki predict x)"\n', ["$(cfs-uki"]),
        ("b -l `cfs-uki predict x`\n", ["$(cfs-uki"]),
        ("cfs-uki predict x >a &&\nmv a /etc/a\n", []),
        ("cfs-uki predict x >/etc/a\n", ["cfs-uki predict x >/etc/a"]),
        ("cfs-uki predict x >a\nmv a /etc/a\n", ["cfs-uki predict x >a"]),
    ],
)
def test_what_goes_on_with_nothing_is_seen(text: str, found: list[str]) -> None:
    assert unguarded(text) == found


def test_what_is_made_again_is_made_anew() -> None:
    """mkosi leaves what is there; systemd-repart makes no disk over another one."""
    made = [line for _, block in BLOCKS for line in block.text.splitlines() if "mkosi" in line]
    assert made.count("mkosi build") == 1
    for _, block in BLOCKS:
        if "--empty=create" in block.text:
            assert re.search(r"rm -f disk\.raw\n.*--empty=create", block.text)
        assert "--partscan" not in block.text, "a container has no nodes of partitions"
