# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a mounter of composefs roots must survive, as a table that any mounter can be run against.

`python -m tests.vm.matrix` runs all of it and writes build/matrix.json and build/matrix.md.
"""
