/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CFS_OBJECTS_H
#define CFS_OBJECTS_H

#include <Python.h>

/* Calls it with each object that the garbage collector knows. It may take the object out of the
 * collector's lists. */
void objects_each(void (*visit)(PyObject *object, void *context), void *context);

#endif
