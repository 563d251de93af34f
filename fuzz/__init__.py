# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Fuzzing of every parser of untrusted bytes: `make fuzz TIME=60`.

c/ has a libFuzzer harness for each parser of the C core, harness/ one for each parser in Python
(atheris), seeds/ what they start from (made by make_seeds.py), crashes/ each input that was once
a bug. tests/fuzz/ replays both as ordinary tests.
"""
