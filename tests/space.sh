#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Says how much of the disk is needed, before it is used, and fails where it is not there.
# $1: the MiB that build/ may grow to.
set -eu
needed=$1
there=0
[ ! -d build ] || there=$(du -sm build | cut -f 1)
free=$(df -BM --output=avail . | tail -n 1 | tr -dc 0-9)
echo "space: $needed MiB are needed in build/, $there are used there, $free are free"
if [ $((needed - there)) -gt "$free" ]; then
	echo "space: $((needed - there - free)) MiB are missing below $PWD: make room" >&2
	exit 1
fi
