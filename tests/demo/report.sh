#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs inside the booted root: says to the host how the boot went, then powers off.
# $1 is a file whose content lies in the object store.
udevadm wait --timeout=600 /dev/virtio-ports/results
exec >/dev/virtio-ports/results 2>&1

echo "state: $(systemctl is-system-running --wait)"
systemctl list-units --failed --plain --no-legend | while read -r unit _; do
	echo "failed: $unit"
	systemctl status --no-pager "$unit"
done
echo "target: $(systemctl get-default) $(systemctl is-active default.target)"
echo "os: $(sed -n 's/^PRETTY_NAME=//p' /etc/os-release)"
echo "kernel: $(uname -r)"
echo "cmdline: $(cat /proc/cmdline)"
echo "mountinfo: $(grep '^[0-9]* [0-9]* [0-9:]* [^ ]* / ' /proc/self/mountinfo)"
echo "record: $(tr -d '\n' </run/cfs/root.json)"
echo "hostname: $(cat /etc/hostname)"
if error=$(touch /usr/written 2>&1); then error=none; fi
echo "write: $error"
# What comes before the first block that does not verify is served: it must be the true content.
if error=$(cat "$1" 2>&1 >/run/served); then error=none; fi
echo "read: $error"
echo "served: $(stat -c %s /run/served) $(sha256sum </run/served)"
echo "time: $(systemd-analyze time | head -n 1)"
echo "end: of the report"
systemctl --no-block poweroff
