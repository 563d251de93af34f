# SPDX-License-Identifier: Apache-2.0 OR MIT
"""make check-fresh: what it is asked for, and what it says before it uses the disk."""

import re
from pathlib import Path

import pytest

from tests import fresh
from tests.fresh import FreshError, Options

ROOT = Path(__file__).resolve().parents[1]


def test_without_being_asked_it_does_all() -> None:
    options = Options.of({})
    assert options == Options("yes", fresh.SUITES, keep=False)
    assert options == Options.of({"GUESTS": "yes", "SUITES": "", "KEEP": "no"})


def test_its_commands_are_those_of_the_readme() -> None:
    listed = re.findall(r"^    (\./run \w+) +#", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert Options.of({}).commands == tuple(listed)


def test_the_demo_is_a_guest() -> None:
    assert Options.of({"GUESTS": "no"}).commands == ("./run check",)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("GUESTS", "No", "GUESTS is 'No', expected yes or no"),
        ("SUITES", "trixie jessie", "SUITES has 'jessie', expected some of bookworm trixie"),
    ],
)
def test_a_value_that_means_nothing(name: str, value: str, message: str) -> None:
    with pytest.raises(FreshError) as caught:
        Options.of({name: value})
    assert str(caught.value) == message


def test_space_is_said_before_it_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh.check_space(3000, tmp_path, 3000)
    said = f"fresh: 3000 MiB are needed below {tmp_path}, 3000 MiB are free\n"
    assert capsys.readouterr().out == said
    with pytest.raises(FreshError, match="2999 MiB are free, 3000 MiB are needed: make room"):
        fresh.check_space(3000, tmp_path, 2999)


def test_how_to_reach_the_index_of_pip_is_taken_over_and_its_cache_is_not() -> None:
    listed = (
        ":env:.cert='/etc/ssl/own.crt'\n:env:.find-links='/opt/wheels'\n"
        "global.index-url='https://mirror.example/simple?a=b'\nglobal.cache-dir='/var/cache/pip'\n"
    )
    assert fresh.pip_settings(listed) == {
        "PIP_CERT": "/etc/ssl/own.crt",
        "PIP_INDEX_URL": "https://mirror.example/simple?a=b",
    }
