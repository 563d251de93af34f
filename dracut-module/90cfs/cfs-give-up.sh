#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The first emergency hook of an initrd without systemd: what dracut does before it starts a shell,
# for whatever reason (a device that is missing, rd.break, a panic of its own).
#
# The configured action. It comes back where that is a shell; whatever else happens ends here.

cfs-setup-root --give-up || {
    echo b > /proc/sysrq-trigger
    while :; do
        sleep 3600
    done
}
