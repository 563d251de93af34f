# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A machine that fails: every system call of a mount, every allocation, once."""
