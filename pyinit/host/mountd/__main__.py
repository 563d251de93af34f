# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python3 -Im pyinit.host.mountd`: what cfs-mountd@.service starts."""

from pyinit.host.mountd import serve

raise SystemExit(serve.main())
