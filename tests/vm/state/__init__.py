# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The cases of test_state.py, by subject."""
