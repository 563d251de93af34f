# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The commands of the host: their options, and what they print. No other room imports one."""
