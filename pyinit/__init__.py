# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Boot a sealed composefs root: `initrd` is what is frozen for the initrd, `host` the tools."""

VERSION = "0.1.0"
