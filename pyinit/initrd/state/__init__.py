# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is laid over the root: /etc, /var and the upper layer. It knows the disk and the composed
root; not who named the digest."""
