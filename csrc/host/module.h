/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the files of `_cfshost` share. */
#ifndef CFS_HOST_MODULE_H
#define CFS_HOST_MODULE_H

#include "measure.h"
#include "pool.h"

#include <pybind11/pybind11.h>

/* Calls the function, and handlers of signals. What they raise ends what runs. */
cfs::Progress progress_of(const pybind11::function &progress);

/* (errno, regular, sealed, digest, the kernel's digest) */
pybind11::tuple measured_of(const cfs::Measured &one);

/* What checks stores. */
void add_checks(pybind11::module_ &module);

/* What makes images. */
void add_images(pybind11::module_ &module);

#endif
