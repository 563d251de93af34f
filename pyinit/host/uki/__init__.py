# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Reading and sealing UKIs: PE files and the cpio archives in them. It knows no object store."""
