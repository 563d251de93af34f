# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Disks and drivers, found without udev. It knows sysfs and device nodes; not what is sealed on
them."""
