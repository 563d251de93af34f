# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Cases of cfs-setup-root in one guest, over a sealed disk that is mounted at /disk."""

from collections.abc import Mapping, Sequence

from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config

from .cases import Case, Results, run_cases
from .guest import Disk
from .initrd import FILE_SYSTEM_MODULES, GUEST_MODULES, HASH_MODULES
from .product import cfs_init
from .rootdisk import CARRIED
from .store import SealedTree
from .toolbox import Toolbox


def run_setup_root(
    toolbox: Toolbox, role: str, made: SealedTree, cases: Sequence[Case],
    settings: Mapping[str, Mapping[str, str]], files: Mapping[str, bytes],
) -> Results:  # fmt: skip
    """`settings`: of Config, by the names of files in /guest/configuration."""
    configurations = {}
    for name, values in settings.items():
        configuration = Config()
        for key, value in values.items():
            setattr(configuration, key, value)
        configurations[f"guest/configuration/{name}"] = config.format(configuration)
    return run_cases(
        toolbox,
        toolbox.kernel(role),
        cases,
        setup="mount -t ext4 /dev/vda /disk",
        modules=(*GUEST_MODULES, *FILE_SYSTEM_MODULES["ext4"], *HASH_MODULES),
        files={
            "usr/bin/cfs-setup-root": cfs_init(), CARRIED: b"", **files, **configurations,
        },
        disks=[Disk(made.disk("ext4"), discard_writes=True)],
    )  # fmt: skip
