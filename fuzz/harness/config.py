# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The compiled configuration of the initrd."""

from pyinit.initrd.report.errors import UsageError
from pyinit.initrd.source import config


def check(data: bytes) -> None:
    try:
        found = config.parse(data, "fuzz")
    except UsageError as error:
        assert (error.step, error.path) == ("config", "fuzz")
        assert str(error).isprintable()
        return
    keys = [line.partition(b"=")[0] for line in data.splitlines()]
    assert len(set(keys)) == len(keys)
    written = config.format(found)
    assert config.parse(written, "fuzz").values() == found.values()
    # What it writes has the given lines, and the defaults besides.
    assert set(data.splitlines()) <= set(written.splitlines())
