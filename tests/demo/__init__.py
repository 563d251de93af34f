# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`make demo`: a Debian root booted from the digest in a UKI, from nothing but packages."""
