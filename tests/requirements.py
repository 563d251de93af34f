# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Prints what pyproject.toml says that a developer needs, for `pip install -r`.

With an argument: what that extra of it needs besides.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
needed = extras[sys.argv[1]] if sys.argv[1:] else project["dependencies"] + extras["dev"]
sys.stdout.write("\n".join(needed) + "\n")
