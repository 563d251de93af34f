# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds too large to be committed: what the tools of the toolbox make, in build/fuzz/real/."""

import shutil
from pathlib import Path

from tests.vm.guest import sign
from tests.vm.once import made_once
from tests.vm.toolbox import Toolbox

from .parsers import BUILD, Parser

_EFI = "usr/lib/systemd/boot/efi"
_DIGEST = b"cfsdig1\nrootfs=fsverity-sha256-12:%s\n" % (b"a1" * 32)


def files(parser: Parser) -> list[Path]:
    """Directories with more seeds of that parser."""
    makers = {"pe": _make_pe, "modules": _make_modules}
    if parser.name not in makers:
        return []
    return [made_once(BUILD / "real" / parser.name, "1", makers[parser.name])]


def _make_pe(directory: Path) -> None:
    """Stubs, boot loader, an add-on by ukify with our section, and that one signed."""
    box = Toolbox()
    for name in ("linuxx64.efi.stub", "addonx64.efi.stub", "systemd-bootx64.efi"):
        shutil.copyfile(box.path(f"{_EFI}/{name}"), directory / name)
    payload = directory / "payload"
    payload.write_bytes(_DIGEST)
    for stub in ("linuxx64.efi.stub", "addonx64.efi.stub"):
        made = directory / f"with-section-{stub}"
        box.run(
            "ukify", "build", f"--stub={box.path(f'{_EFI}/{stub}')}", "--cmdline=quiet",
            f"--section=.cfsdig:@{payload}", f"--output={made}",
        )  # fmt: skip
        sign(box, made, directory / f"signed-{stub}")
    payload.unlink()


def _make_modules(directory: Path) -> None:
    """Pieces of a kernel's own tables, with identities of some devices."""
    modules = Toolbox().kernel("stable").modules_dir
    tables = [(modules / f"modules.{name}").read_bytes() for name in ("dep", "alias", "softdep")]
    devices = b"virtio:d00000002v00001AF4\npci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"
    for part in range(32):
        pieces = [_lines(table, part / 32) for table in tables]
        (directory / f"kernel-{part}").write_bytes(b"\n--\n".join((*pieces, devices)))


def _lines(table: bytes, where: float) -> bytes:
    lines = table.splitlines()
    at = int(len(lines) * where)
    return b"\n".join(lines[at : at + 10])
