#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Installs what building and testing need and the machine lacks; with the argument "demo", what the
# demo needs; with "arm64", what a build for arm64 needs too. The names are those of Debian 12 and
# 13 alike. As an ordinary user it only says what is missing.
set -eu

packages="
	debian-archive-keyring
	dpkg-dev
	g++
	gcc
	gpg
	gpg-agent
	libc6-dev
	libisal-dev
	libpython3-dev
	libssl-dev
	libzstd-dev
	linux-libc-dev
	make
	mmdebstrap
	mount
	musl-tools
	pybind11-dev
	python3
	python3-pybind11
	python3-pyelftools
	python3-setuptools
	zstd
"
[ "${1-}" = demo ] || packages="$packages
	clang
	cpio
	libclang-rt-dev
	llvm
	openssl
	python3-venv
	shellcheck
	strace
	zlib1g-dev
"

[ "${1-}" != arm64 ] || packages="$packages
	gcc-aarch64-linux-gnu
	libc6-dev-arm64-cross
	qemu-user-static
"

missing=
for package in $packages; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "missing Debian packages, to be installed by root: apt-get install$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
# shellcheck disable=SC2086 # a list of words
apt-get -q -y install --no-install-recommends $missing
