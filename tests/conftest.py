# SPDX-License-Identifier: Apache-2.0 OR MIT
from hypothesis import settings

# No example has a time limit: a machine that is busy with something else would fail it.
settings.register_profile("pyinit", deadline=None)
settings.load_profile("pyinit")
