/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The started interpreter, as it lies in the executable: see snapshot.c. */
#ifndef CFS_SNAPSHOT_H
#define CFS_SNAPSHOT_H

#include <Python.h>

#include <stdbool.h>

/* Brings the window to the state that the snapshot has. False: this file has none; it is the one
 * of which a snapshot is to be taken. Before this, no variable of the window may be used. */
bool snapshot_restore(void);

/* Makes anew what belongs to this process and not to the one whose snapshot was taken. Returns
 * NULL, or what failed. */
const char *snapshot_resume(char **environment);

/* Imports every frozen module, leaves nothing of this process in the window and writes the image's
 * address and the window to standard output. Returns NULL, or what failed. */
const char *snapshot_take(void);

#endif
