/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The two tables that the evaluator shares with the compiler. libpython keeps them in the
 * compiler's object file; instantiated here from the same header, they come without it.
 */
#define Py_BUILD_CORE 1
#include <Python.h>

#if PY_VERSION_HEX >= 0x030d0000
#define NEED_OPCODE_METADATA
#include <internal/pycore_opcode_metadata.h>
#else
#define NEED_OPCODE_TABLES
#include <internal/pycore_opcode.h>
#endif
