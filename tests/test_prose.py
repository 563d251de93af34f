# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which lines are too long, and where is looked for them."""

import pytest

from tests import prose

LONG = "word " * 20 + "word"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LONG, [(1, 104)]),
        (f"short\n\n- {LONG}\n", [(3, 106)]),
        (f"| {LONG} |", []),
        (f"    make check   # {LONG}", [(1, 123)]),
        (f"```sh\n{LONG}\n```\n{LONG}", [(2, 104), (4, 104)]),
        ("word " * 18 + "[link](" + "a" * 30 + ")", []),
        (f"{LONG} [link](page.md)", [(1, 120)]),
        ("word " * 10 + "[a](" + "a" * 30 + ") [b](" + "b" * 30 + ")", [(1, 121)]),
        ("x" * 100, []),
    ],
)
def test_lines_that_are_too_long(text: str, found: list[tuple[int, int]]) -> None:
    assert list(prose.too_long(text)) == found


def test_every_page_is_looked_at() -> None:
    names = {page.relative_to(prose.ROOT).as_posix() for page in prose.pages()}
    assert names >= {"README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    assert names >= {"dracut-module/README.md", "docs/index.md"}
    assert not [name for name in names if name.startswith("build/")]
