# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m fuzz.measure PARSER REPORT DIRECTORY…`: a Python harness over a corpus, measured.

In a process of its own: what is measured must not be imported before.
"""

import sys
from pathlib import Path

import coverage

from . import harness
from .parsers import PARSERS, ROOT

# Read the disk or the machine, so no harness runs them: tests/initrd/ does.
_NO_PARSERS = [
    r"^if TYPE_CHECKING:",
    r"^class Modules:",
    r"^def (load|read|mount_id|of)\(",
    r"^def (_modaliases|_list|_paths|_exists)\(",
]


def main(arguments: list[str]) -> int:
    name, report, *directories = arguments
    sources = [str(ROOT / source) for source in PARSERS[name].sources]
    measured = coverage.Coverage(branch=True, data_file=None, config_file=False, include=sources)
    for pattern in _NO_PARSERS:
        measured.exclude(pattern)
    measured.start()
    check = harness.load(name)
    for directory in directories:
        for path in sorted(Path(directory).iterdir()):
            check(path.read_bytes())
    measured.stop()
    measured.json_report(outfile=report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
