# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which machine guests are."""

import os
import subprocess
import sys

import pytest

from . import target
from .once import REPOSITORY


def test_a_target_that_is_none() -> None:
    """Not the host's in its place: the tests would pass for nothing."""
    with pytest.raises(ValueError, match=r"'arm64', expected one of x86_64, aarch64, aarch64-16k$"):
        target.chosen("arm64")


@pytest.mark.parametrize(
    ("name", "below", "kernel"),
    [
        ("x86_64", "build", "linux-image-cloud-amd64"),
        ("aarch64", "build/aarch64", "linux-image-cloud-arm64"),
        ("aarch64-16k", "build/aarch64", "linux-image-arm64-16k"),
    ],
)
def test_what_is_made_for_one_lies_apart(name: str, below: str, kernel: str) -> None:
    script = "from tests.vm import kernels, once, product as made\n"
    script += "print(once.BUILD, kernels.META, made.CFS_INIT)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "CFS_TARGET": name,
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/build/lib",
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    place = REPOSITORY / below
    assert done.stdout.split() == [str(place), kernel, str(place / "cfs-init")]


@pytest.mark.parametrize("one", [target.X86_64, target.AARCH64, target.AARCH64_16K])
def test_only_the_host_s_own_programs_run_in_its_guests(one: target.Target) -> None:
    assert one.native is (one is target.X86_64)
