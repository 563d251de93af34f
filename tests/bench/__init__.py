# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`make bench`: what the executable costs. It prints, and judges nothing: machines differ."""
