#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# packaging/dist.sh PYTHON [TAG]: build/dist with the sdist, the wheel built from it, and their
# sums. With TAG, it has to be that of this version, and the interpreter's source the newest on
# offer: who builds a package of the release has the same suite. `make dist` calls it.
set -eu
python=$1
tag=${2-}
cd "$(dirname "$0")/.."

version=$("$python" -c 'import pyinit; print(pyinit.VERSION)')
if [ -n "$tag" ] && [ "$tag" != "v$version" ]; then
	echo "dist.sh: tag $tag: this is version $version, expected v$version" >&2
	exit 1
fi
if ! "$python" -W ignore setup.py -q build_frozen --check-source && [ -n "$tag" ]; then
	echo "dist.sh: tag $tag: no release while that is so" >&2
	exit 1
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
rm -rf build/dist
"$python" -W ignore setup.py -q sdist -d build/dist
# In isolation: by the newest setuptools, whatever this machine has.
"$python" -m pip -q --disable-pip-version-check wheel --no-deps --no-cache-dir -w build/dist \
	build/dist/*.tar.gz
cd build/dist
sha256sum -- * >SHA256SUMS
cat SHA256SUMS
