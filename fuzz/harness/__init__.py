# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One module for each parser: `check(data)` raises where a promise is broken.

A promise: what is wrong is said by the declared exception and no other, what is read can be
written again where there is a format(), and time is bounded.
"""
