# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m fuzz.make_seeds`: writes fuzz/seeds/<parser>/, the same bytes each time.

One file for each rule kept, broken, or just not broken; a test says when they are not what this
script makes. Real files, too large for that, are added when fuzzing (real.py).
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from . import (
    binary_seeds,
    canary_seeds,
    dump_seeds,
    erofs_seeds,
    inflate_seeds,
    pe_seeds,
    proof_seeds,
    tar_seeds,
    text_seeds,
)
from .parsers import HERE, PARSERS

SEEDS = HERE / "seeds"

# Each gives contents; equal ones are written once.
MAKERS: dict[str, Callable[[], list[bytes]]] = {
    "digest": text_seeds.digest,
    "image_list": text_seeds.image_list,
    "image": binary_seeds.image,
    "canary": canary_seeds.canary,
    "pe": pe_seeds.pe,
    "erofs": erofs_seeds.erofs,
    "dump": dump_seeds.dump,
    "tar": tar_seeds.tar,
    "inflate": inflate_seeds.inflate,
    "sha": binary_seeds.sha,
    "merkle": binary_seeds.merkle,
    "eventlog": proof_seeds.eventlog,
    "authenticode": proof_seeds.authenticode,
    "proof": proof_seeds.proof,
    "payload": text_seeds.payload,
    "config": text_seeds.config,
    "cmdline": text_seeds.cmdline,
    "efivar": binary_seeds.efivar,
    "gpt": binary_seeds.gpt,
    "tpm_message": binary_seeds.tpm_message,
    "nvpcr_message": text_seeds.nvpcr_message,
    "superblock": binary_seeds.superblock,
    "modules": text_seeds.modules,
    "modprobe": text_seeds.modprobe,
    "mountinfo": text_seeds.mountinfo,
    "mount_options": text_seeds.mount_options,
    "varlink": text_seeds.varlink,
}


def make(name: str) -> dict[str, bytes]:
    """File name to content."""
    contents = dict.fromkeys(MAKERS[name]())
    return {f"{number:03}": content for number, content in enumerate(contents)}


def main() -> int:
    for name in PARSERS:
        directory: Path = SEEDS / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        seeds = make(name)
        for file, content in seeds.items():
            (directory / file).write_bytes(content)
        print(f"{name:10} {len(seeds):4} files, {sum(map(len, seeds.values())):7} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
