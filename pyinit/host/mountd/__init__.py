# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`io.cfs.Mount`, the Varlink service by which users get an image. It knows what a call may say and
what users may have. It composes nothing, and knows no store."""
