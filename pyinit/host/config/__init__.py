# SPDX-License-Identifier: Apache-2.0 OR MIT
"""setup-root-conf.toml: read, checked and compiled. It knows the initrd's format alone."""
