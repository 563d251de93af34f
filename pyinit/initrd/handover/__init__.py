# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the booted system is told, and how a machine ends that boots none. It knows the settings and
the kernel; not how the root was made."""
