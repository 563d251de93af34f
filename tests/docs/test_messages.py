# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every text of a refusal has an entry on the page of messages, and none of those is stale."""

import ast
import re
from pathlib import Path

import pytest

from pyinit.initrd.report.errors import STEPS
from tests.docs import messages
from tests.docs.messages import ROOT, Message

PAGE = (ROOT / "docs/reference/messages.md").read_text()
_ROW = re.compile(r"^\| `(.+?)` \| (.+) \| (.+) \|$", re.MULTILINE)
# Where the step is a variable, each of its callers says the same: the table of the kernel's words.
_ANY_STEP = "STEP: "


def normal(text: str) -> str:
    """Without what the kernel adds at the end."""
    return text.removesuffix(": …")


LISTED = [normal(row[0]) for row in _ROW.findall(PAGE)]
FOUND = [
    Message(normal(message.text), message.place)
    for message in messages.messages()
    if not message.text.startswith(_ANY_STEP)
]


@pytest.mark.parametrize("text", sorted({message.text for message in FOUND}))
def test_a_refusal_has_its_entry(text: str) -> None:
    places = [message.place for message in FOUND if message.text == text]
    assert text in LISTED, f"{places}: `{text}` has no row in docs/reference/messages.md"


@pytest.mark.parametrize("text", sorted(set(LISTED)))
def test_an_entry_is_a_message_of_today(text: str) -> None:
    assert text in {message.text for message in FOUND}


def test_an_entry_has_a_cause_and_what_to_do() -> None:
    for text, cause, remedy in _ROW.findall(PAGE):
        assert cause.strip(), text
        assert remedy.strip(), text


def test_every_step_has_its_part() -> None:
    parts = re.findall(r"^## (\S+)$", PAGE, re.MULTILINE)
    assert tuple(part for part in parts if part in STEPS) == STEPS


def test_what_is_read_from_the_sources(tmp_path: Path) -> None:
    """Each way in which a text is written."""
    (tmp_path / "one.py").write_text(
        "import errno\n"
        'WHERE = "there"\n'
        'WORDS = {errno.EIO: "it fails", errno.ENOENT: "it is gone"}\n'
        "def check(path, error, wanted):\n"
        '    if wanted: raise Refused("open", path, f"{path} is {WHERE}", "nothing")\n'
        '    found = "one" if error else f"two of {path}"\n'
        '    found += "; and more"\n'
        '    raise Refused("store", path, found)\n'
        "def other(path, error):\n"
        '    raise UsageError("usage", path, f"{WORDS[error.errno]}: {error}", "a file")\n'
        'def last(path, error): raise Refused("measure", path, str(error), str(path))\n'
    )
    assert {message.text for message in messages.messages(tmp_path)} == {
        "… is there", "one", "two of …", "…; and more", "it fails: …", "it is gone: …",
        "it fails", "it is gone", "measure: …, expected …",
    }  # fmt: skip


def test_all_of_the_sources_are_read() -> None:
    """As many calls as a plain search finds, in the files where people are refused."""
    assert len({message.place.partition(":")[0] for message in FOUND}) > 25
    tree = ast.parse((ROOT / "pyinit/initrd/root/image.py").read_text())
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    assert len(raised) > 5
