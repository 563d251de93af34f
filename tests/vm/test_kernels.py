# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which kernel plays which role, whatever the suites have today."""

import pytest

from . import kernels
from .apt import PackageError, SuiteGoneError
from .kernels import NEWEST, REFUSES, STABLE, choose
from .suites import Choice

NOW = {
    "bookworm": "6.1.170-1",
    "trixie": "6.12.117-1",
    "trixie-backports": "7.3.4-1~bpo13+1",
    "forky": "7.3.4-1",
    "sid": "7.4~rc2-1~exp1",
}


def chosen(role: str, **other: str | None) -> Choice:
    """With `other` in the place of what is there now: None is a suite without a kernel, "gone"
    one that the mirror does not have."""
    there = {**NOW, **{name.replace("_", "-"): version for name, version in other.items()}}

    def offered(suite: str) -> str | None:
        if there[suite] == "gone":
            raise SuiteGoneError(f"suite {suite}: does not have a Release file")
        if there[suite] == "expired":
            raise PackageError(f"suite {suite}: Release file is expired")
        return there[suite]

    return choose(role, offered)


@pytest.mark.parametrize(
    ("plays", "suite", "series"),
    [
        (REFUSES, "bookworm", "6.1"),
        (STABLE, "trixie", "6.12"),
        (NEWEST, "trixie-backports", "7.3"),
    ],
)
def test_what_is_there_now(plays: str, suite: str, series: str) -> None:
    choice = chosen(plays)
    assert (choice.suite, kernels.series(choice.version)) == (suite, series)


@pytest.mark.parametrize(
    ("other", "suite"),
    [
        ({"trixie_backports": "9.1.2-1~bpo13+1"}, "trixie-backports"),  # a new series
        ({"trixie_backports": None}, "forky"),  # an empty suite
        ({"trixie_backports": "gone"}, "forky"),
        ({"trixie_backports": "6.12.120-1~bpo13+1"}, "forky"),  # stable's, again
        ({"trixie_backports": "6.5.3-1~bpo13+1"}, "forky"),
        ({"trixie_backports": None, "forky": "6.12.9-1"}, "sid"),
        ({"trixie_backports": None, "forky": "gone"}, "sid"),
    ],
)
def test_the_newest_comes_from_the_first_suite_that_has_one(
    other: dict[str, str | None], suite: str
) -> None:
    assert chosen(NEWEST, **other).suite == suite


@pytest.mark.parametrize(
    ("plays", "other", "message"),
    [
        (
            NEWEST,
            {"trixie_backports": None, "forky": "gone", "sid": "6.12.1-1"},
            (
                "kernel 'newest': trixie-backports has no package linux-image-cloud-amd64, "
                "forky is not on the mirror, "
                "sid has 6.12.1-1, no newer series than stable's 6.12.117-1; "
                "all else can be run: pytest -k 'not newest'"
            ),
        ),
        (
            NEWEST,
            {"trixie_backports": "expired"},
            (
                "kernel 'newest': suite trixie-backports: Release file is expired; "
                "all else can be run: pytest -k 'not newest'"
            ),
        ),
        (
            REFUSES,
            {"bookworm": "6.12.9-1"},
            (
                "kernel 'refuses': bookworm has 6.12.9-1, which can mount; "
                "all else can be run: pytest -k 'not refuses'"
            ),
        ),
        (
            STABLE,
            {"trixie": "gone"},
            (
                "kernel 'stable': trixie is not on the mirror; "
                "without it no disk is sealed; lint and what boots no guest can be run"
            ),
        ),
    ],
)
def test_what_is_missing_is_one_line(
    plays: str, other: dict[str, str | None], message: str
) -> None:
    with pytest.raises(PackageError) as caught:
        chosen(plays, **other)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("version", "series"),
    [
        ("6.1.0-41-cloud-amd64", "6.1"),
        ("7.3.4+deb13-cloud-amd64", "7.3"),
        ("7.10~rc1-1", "7.10"),
    ],
)
def test_series(version: str, series: str) -> None:
    assert kernels.series(version) == series


def test_series_compare_as_numbers() -> None:
    assert kernels.number("6.9.1") < kernels.number("6.12.1") < kernels.number("7.0.1")


def test_a_series_that_nobody_has_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.seen("6.12.117-1")
    assert not kernels.seen("99.1.2-1")
    kernels.announce(NEWEST, Choice("sid", "99.1.2-1"))
    assert capsys.readouterr().err == (
        "toolbox: kernel newest: 99.1.2-1 of sid "
        "(series 99.1, never seen before: its differences fail make matrix only)\n"
    )


@pytest.mark.parametrize("split", [False, True])
def test_the_packages_behind_the_meta_package(split: bool) -> None:
    release = "linux-image-7.3.4+deb14-cloud-amd64"
    parts = ["linux-binary-7.3.4+deb14-cloud-amd64", "linux-modules-7.3.4+deb14-cloud-amd64"]
    depends = {kernels.META: [release], release: [*(parts if split else []), "kmod"]}
    depends |= {parts[0]: [parts[1]], parts[1]: [parts[0]]}
    found = kernels.packages(lambda name: depends.get(name, []))
    assert found == [release, *(parts if split else [])]
