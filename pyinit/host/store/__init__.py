# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Object stores: what lies where, adding to them, sealing them. It knows no UKI."""
