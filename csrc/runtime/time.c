/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The part of the module `time` that waiting needs. The interpreter's own asks libc for the time
 * zone while it is imported, which opens /etc/localtime and brings zones and calendars with it.
 * pyinit.host.frozen.sources.TIME says the same to the check of frozen code.
 */
#include <Python.h>

#include <errno.h>
#include <math.h>
#include <time.h>

static const double NANOSECONDS = 1e9;

static PyObject *time_monotonic(PyObject *module, PyObject *unused)
{
	struct timespec now;

	(void)module, (void)unused;
	if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	return PyFloat_FromDouble((double)now.tv_sec + (double)now.tv_nsec / NANOSECONDS);
}

static PyObject *time_sleep(PyObject *module, PyObject *argument)
{
	double seconds = PyFloat_AsDouble(argument);
	struct timespec left;
	int error;

	(void)module;
	if (seconds == -1.0 && PyErr_Occurred())
		return NULL;
	if (!(seconds >= 0 && seconds <= INT_MAX)) {
		PyErr_SetString(PyExc_ValueError, "sleep length must be non-negative and finite");
		return NULL;
	}
	left.tv_sec = (time_t)seconds;
	left.tv_nsec = (long)((seconds - floor(seconds)) * NANOSECONDS);
	do
		error = clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left);
	while (error == EINTR);
	if (error) {
		errno = error;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{"monotonic", time_monotonic, METH_NOARGS, NULL},
	{"sleep", time_sleep, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "time",
	.m_size = 0,
	.m_methods = methods,
};

PyObject *PyInit_time(void);
PyObject *PyInit_time(void)
{
	return PyModuleDef_Init(&definition);
}
