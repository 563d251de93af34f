# SPDX-License-Identifier: Apache-2.0 OR MIT
"""From a digest to a checked root. It knows the object store and the layers; not who named the
digest."""
