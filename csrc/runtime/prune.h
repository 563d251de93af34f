/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Names that nothing can look up: see prune.c. */
#ifndef CFS_PRUNE_H
#define CFS_PRUNE_H

/* Takes them out of the types that are there, so that there is room for modules. Comes first. Returns
 * 0, or -1 with an exception. */
int prune_types(void);

/* Takes them out of all types and modules. Returns 0, or -1 with an exception. */
int prune_names(void);

#endif
