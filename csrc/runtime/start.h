/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CFS_START_H
#define CFS_START_H

/* Makes what RELRO covers read-only, if libc has not; -errno. */
int start_protect(void);

#endif
