# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m fuzz.harness PARSER [libFuzzer's options and directories]`, under atheris."""

import importlib
import sys

import atheris

parser = sys.argv.pop(1)
with atheris.instrument_imports(include=["pyinit.initrd"]):
    harness = importlib.import_module(f"fuzz.harness.{parser}")
atheris.Setup(sys.argv, harness.check)
atheris.Fuzz()
