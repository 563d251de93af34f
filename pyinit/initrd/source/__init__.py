# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Who may name the root: carried file, section, command line, configuration. It knows formats, and
disks as far as the ESP; not the object store."""
