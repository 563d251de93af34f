# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The builder of build/cfs-init: sources -> code objects -> C table -> static executable.

`build.build()` is all of it; `python setup.py build_frozen` and `make frozen` call that.
"""
