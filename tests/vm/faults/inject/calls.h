// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once

#include <stddef.h>

#define ERRORS_MAX 6

struct call {
	long number;
	const char *name;
	int errors[ERRORS_MAX]; /* 0 ends them */
};

const struct call *call_of(long number); /* NULL: none of the table */
