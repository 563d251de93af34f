# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Virtual machines for the tests: tools, disks, initrds, guests."""
