# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Prints what pyproject.toml says that a developer needs, for `pip install -r`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
needed = project["dependencies"] + project["optional-dependencies"]["dev"]
sys.stdout.write("\n".join(needed) + "\n")
