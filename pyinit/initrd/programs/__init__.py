# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One program a file: its command line, and nothing of the flow. It knows all rooms; none knows
it."""
