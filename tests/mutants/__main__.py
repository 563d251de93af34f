# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`make mutants`, or `python -m tests.mutants [--list] [--jobs N] [FILE...]`.

FILE: files of the boot path, or parts of their names. Exits with 1 where a change survived.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator

from . import belongs, python_changes
from .belongs import REPOSITORY
from .change import Change, exceptions
from .pool import Crew


def main(arguments: list[str]) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the changes, make none")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("file", nargs="*")
    options = parser.parse_args(arguments)
    changes = list(_changes(options.file))
    if options.list:
        for change in changes:
            print(change)
        return 0
    start = time.monotonic()
    listed = exceptions()
    excepted = [change for change in changes if any(e.covers(change) for e in listed)]
    tried = [change for change in changes if change not in excepted]
    print(f"mutants: {len(tried)} changes of {len({c.path for c in changes})} files", flush=True)
    with Crew(options.jobs) as crew:
        survived = list(crew.survivors(tried, belongs.near, _progress))
        print(f"mutants: {len(survived)} that near tests let through", flush=True)
        survived = list(crew.survivors(survived, belongs.far, _progress))
    for change in survived:
        print(f"survived: {change}")
    minutes = (time.monotonic() - start) / 60
    print(
        f"mutants: {len(tried)} changes, {len(survived)} survived, {len(excepted)} are exceptions, "
        f"{minutes:.0f} min"
    )
    return 1 if survived else 0


def _changes(wanted: list[str]) -> Iterator[Change]:
    from . import c_changes  # tree-sitter is installed for this alone

    names = belongs.files()
    unknown = [part for part in wanted if not any(part in name for name in names)]
    if unknown:
        raise SystemExit(f"mutants: no file of the boot path is called {' or '.join(unknown)}")
    for name in names:
        if wanted and not any(part in name for part in wanted):
            continue
        find = c_changes.changes if name.endswith(".c") else python_changes.changes
        yield from find(name, (REPOSITORY / name).read_bytes())


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
