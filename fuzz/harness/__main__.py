# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m fuzz.harness PARSER [libFuzzer's options and directories]`, under atheris."""

import sys

import atheris

from fuzz import harness

parser = sys.argv.pop(1)
with atheris.instrument_imports(include=["pyinit.initrd", "pyinit.host.mountd"]):
    check = harness.load(parser)
atheris.Setup(sys.argv, check)
atheris.Fuzz()
