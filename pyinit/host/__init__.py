# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Tools for image builders and administrators, and the builder of the frozen executable."""
