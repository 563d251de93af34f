/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CFS_DIGEST_H
#define CFS_DIGEST_H

#include <stdint.h>

/* Bytes of a digest of that algorithm; 0: an unknown one. */
uint16_t cfs_digest_size(uint16_t algorithm);

#endif
