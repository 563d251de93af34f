# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which parsers there are, and the files that belong to each."""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "fuzz"


@dataclass(frozen=True)
class Parser:
    """`name` is that of the harness, of its seeds, crashes and dictionary."""

    name: str
    sources: tuple[str, ...]
    """What it covers, relative to the repository."""
    seeds: int = 100
    """How many have to be there."""
    max_length: int = 4096
    extra: tuple[str, ...] = ()
    """More C sources of the fuzzer: a mutator."""
    engine: tuple[str, ...] = ()
    """More files of the engine, which no other fuzzer needs."""
    libraries: tuple[str, ...] = ()
    """For these files, and to compare with."""

    @property
    def is_c(self) -> bool:
        return self.sources[0].startswith("csrc/")

    @property
    def is_cxx(self) -> bool:
        """Of the host's engine. `is_c` holds too."""
        return self.sources[0].endswith(".cc")

    @property
    def corpus(self) -> list[Path]:
        """Directories of what is committed."""
        found = [HERE / kind / self.name for kind in ("seeds", "crashes")]
        return [path for path in found if path.is_dir()]

    @property
    def dictionary(self) -> Path:
        return HERE / "dictionaries" / f"{self.name}.dict"


def _python(*names: str) -> tuple[str, ...]:
    """Files of the initrd, by their rooms."""
    return tuple(f"pyinit/initrd/{name}.py" for name in names)


PARSERS = {
    parser.name: parser
    for parser in (
        Parser("digest", ("csrc/parse/digest.c",), max_length=256),
        Parser("image", ("csrc/parse/image.c",)),
        Parser("canary", ("csrc/parse/canary.c",), 200, 1 << 16),
        Parser("pe", ("csrc/parse/pe.c", "csrc/system/pe_file.c"), 200, 1 << 18, ("pe_mutator.c",)),
        Parser("merkle", ("csrc/parse/merkle.c",), 100, 64),
        Parser("sha", ("csrc/parse/sha.c",), max_length=600),
        Parser("eventlog", ("csrc/parse/eventlog.c",)),
        Parser("authenticode", ("csrc/parse/authenticode.c",), max_length=1 << 17),
        Parser("proof", ("csrc/parse/proof.c",), max_length=1 << 16),
        Parser("erofs", ("csrc/host/erofs.cc", "csrc/host/report.cc"), 200, 1 << 16),
        Parser("dump", tuple(f"csrc/host/{name}.cc" for name in ("dump", "tree", "writer")), 150),
        Parser(
            "tar",
            tuple(f"csrc/host/{name}.cc" for name in ("archive", "layers", "tar")),
            150,
            1 << 16,
        ),
        Parser(
            "inflate",
            ("csrc/host/inflate.cc",),
            150,
            1 << 13,
            engine=("blob", "inflate"),
            libraries=("crypto", "isal", "z", "zstd"),
        ),
        Parser("payload", _python("source/payload", "source/keylines"), max_length=5000),
        Parser("image_list", _python("source/image_list", "source/keylines")),
        Parser("config", _python("source/config", "source/keylines")),
        Parser("cmdline", _python("source/cmdline")),
        Parser("efivar", _python("source/efivar"), max_length=512),
        Parser("gpt", _python("machine/gpt"), max_length=16384),
        Parser("tpm_message", _python("machine/tpm_message"), max_length=256),
        Parser("nvpcr_message", _python("machine/nvpcr_message"), max_length=256),
        Parser("superblock", _python("machine/superblock", "kernel/utf16")),
        Parser("modules", _python("machine/modules", "machine/modalias")),
        Parser("modprobe", _python("machine/modprobe"), max_length=6000),
        Parser("mountinfo", _python("kernel/mountinfo")),
        Parser("mount_options", _python("programs/mount_options"), max_length=2048),
        Parser("varlink", ("pyinit/host/mountd/varlink.py",), max_length=5000),
    )
}
