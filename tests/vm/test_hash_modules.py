# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The recipes put the kernel's SHA-2 modules into the initrd, the processor's own among them.

fs-verity keeps the implementation that it finds first: without the processor's own one, 6.12 hashes
with the generic one for good. What it says that it took is read in tests/vm/test_init.py.
"""

import re

import pytest

from .kernels import ROLES
from .once import REPOSITORY
from .toolbox import Toolbox

RECIPES = REPOSITORY / "dracut-module"
_ALIAS = re.compile(r"^alias (?:crypto-)?sha(?:256|512) (\S+)$", re.MULTILINE)


def _named(recipe: str) -> set[str]:
    text = (RECIPES / recipe).read_text()
    lines = re.findall(r"^.*(?:instmods|manual_add_modules) (.*)$", text, re.MULTILINE)
    return {word for line in lines for word in line.split()}


def _matches(name: str) -> bool:
    """As mkosi does: a pattern anywhere in the path of the file, whose name has `-`."""
    text = (RECIPES / "mkosi/mkosi.conf").read_text()
    [patterns] = re.findall(r"^KernelModulesInitrdInclude=\n((?:[ \t].*\n)+)", text, re.MULTILINE)
    return any(re.search(pattern, f"/{name}.ko.xz") for pattern in patterns.split())


@pytest.mark.parametrize("role", ROLES)
def test_the_recipes_name_all_that_a_kernel_has(toolbox: Toolbox, role: str) -> None:
    kernel = toolbox.kernel(role)
    names = set(_ALIAS.findall((kernel.modules_dir / "modules.alias").read_text()))
    if kernel.series in ("6.1", "6.12"):  # later ones have them built in
        assert names
    assert names <= _named("90cfs/module-setup.sh")
    assert names <= _named("initramfs-tools/hook")
    files = {path.name.partition(".")[0] for path in kernel.modules_dir.rglob("sha*.ko*")}
    of_files = {name for name in files if name.replace("-", "_") in names}
    assert len(of_files) == len(names)
    assert {name for name in of_files if not _matches(name)} == set()
