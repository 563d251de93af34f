/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The executable of which pyinit.host.frozen takes the snapshot: it does nothing else. */
#ifndef CFS_TAKE_H
#define CFS_TAKE_H

/* Starts the interpreter and writes its snapshot to standard output. Returns 0, or -1 when it has
 * said why not. The file that ships is linked without this: what it alone needs is not in it. */
int take_snapshot(void (*complain)(const char *what, const char *detail), void (*report)(void));

#endif
