# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Plain `pytest tests/initrd` works: against an installed package, else this tree and its build."""

import importlib.util
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if importlib.util.find_spec("pyinit") is None:
    sys.path.insert(0, str(ROOT))
if importlib.util.find_spec("_cfs") is None:
    # Only what was built for this very interpreter: the suffix says it.
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = sorted(ROOT.glob(f"build/**/_cfs{suffix}"), key=lambda path: path.stat().st_mtime)
    if built:
        sys.path.insert(0, str(built[-1].parent))
