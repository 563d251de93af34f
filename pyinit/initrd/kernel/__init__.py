# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the kernel is asked: mounts, files, types of file systems. It knows nothing of digests."""
