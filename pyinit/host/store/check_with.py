# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An image, compared with the one that mkcomposefs makes."""

from __future__ import annotations

import _cfshost
import subprocess

from pyinit.initrd.report.errors import Refused, SystemFailure


def compare(
    program: str, made: bytes, source: str, versions: tuple[int, int], *, whole: bool
) -> None:
    """Refused: it makes another image; or none, and what it says. SystemFailure: it cannot be run.

    With `whole` it reads the directory `source` itself. Else it gets the text of the image: then
    the writer alone is compared.
    """
    text: list[bytes] = []
    if not whole:
        _cfshost.Image(made).dump(text.append)
    limits = (f"--min-version={versions[0]}", f"--max-version={versions[1]}")
    where = (source,) if whole else ("--from-file", "-")
    try:
        done = subprocess.run(
            [program, *limits, *where, "-"],
            input=b"".join(text),
            capture_output=True,
            check=False,
        )
    except OSError as error:
        found = f"it cannot be run: {error.strerror}"
        raise SystemFailure("source", program, found, "without --check-with") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Refused("source", source, f"{program} makes no image: {said}")
    if done.stdout != made:
        found = f"{program} makes another image"
        raise Refused("source", source, found, "the same bytes: report this")
