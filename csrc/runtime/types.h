/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Types of which no object is ever made: see types.c. */
#ifndef CFS_TYPES_H
#define CFS_TYPES_H

/* Takes from them what they can do. The garbage collector must not run again. Returns NULL, or the
 * name of what failed. */
const char *types_forget(void);

#endif
