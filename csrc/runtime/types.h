/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Types of which no object is ever made: see types.c. */
#ifndef CFS_TYPES_H
#define CFS_TYPES_H

/* Takes from them what they can do. Returns NULL, or the name of what failed. */
const char *types_forget(void);

/* The same for the types of contexts, of which there is one object: the garbage collector must not
 * run again. Fails where there is an object of the others after all. */
const char *types_forget_contexts(void);

#endif
