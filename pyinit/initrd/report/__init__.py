# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What people are told: messages, exit codes, tracebacks. It knows nothing of the boot."""
