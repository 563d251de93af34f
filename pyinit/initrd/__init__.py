# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Policy that runs in the initrd: imports itself, `_cfs` and the interpreter's own built-ins."""
