/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * cfs-init: goes on from the snapshot of an interpreter that has nothing but this file, runs
 * pyinit.initrd.main.main() and leaves with its result.
 * It is never finalized: the process ends or executes another program.
 */
#include <Python.h>

#include "snapshot.h"
#include "start.h"
#include "take.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { EXIT_INTERNAL = 4 }; /* pyinit.initrd.report.errors, and so mount(8)'s "internal error" */

/* When nothing of Python can be relied upon: one line on stderr and, in a boot, in the log. */
static void complain(const char *what, const char *detail)
{
	char line[512];
	int length = snprintf(line, sizeof(line), "cfs-init: internal error: %s%s%s\n", what,
			      detail ? ": " : "", detail ? detail : "");
	size_t size = length < 0 ? 0 : strnlen(line, sizeof(line) - 1);

	if (write(STDERR_FILENO, line, size) < 0)
		errno = 0; /* nowhere left to say so */
	if (getpid() == 1) {
		int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY);

		if (log >= 0) {
			if (write(log, line, size) < 0)
				errno = 0;
			close(log);
		}
	}
}

/* The kernel starts PID 1 without descriptors 0 to 2 where the initramfs has no /dev/console. What
 * is opened next must not get their numbers, or a message would be written into it. */
static int reserve_standard_descriptors(void)
{
	static int reserved[STDERR_FILENO + 1]; /* open until the process ends */

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		reserved[fd] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (reserved[fd] != fd)
			return -1;
	}
	return 0;
}

/* Core-only initialization leaves sys.argv out. Bytes that are not UTF-8 become surrogates. */
static PyObject *argument_list(int argc, char **argv)
{
	PyObject *list = PyList_New(argc);

	for (int i = 0; list && i < argc; i++) {
		PyObject *argument = PyUnicode_DecodeUTF8(argv[i], (Py_ssize_t)strlen(argv[i]),
							  "surrogateescape");

		if (!argument) {
			Py_CLEAR(list);
			break;
		}
		PyList_SET_ITEM(list, i, argument);
	}
	if (list && PySys_SetObject("argv", list) < 0)
		Py_CLEAR(list);
	return list;
}

static PyObject *call(const char *module_name, const char *function, PyObject *argument)
{
	PyObject *module = PyImport_ImportModule(module_name);
	PyObject *result = NULL;

	if (module)
		result = PyObject_CallMethod(module, function, "O", argument);
	Py_XDECREF(module);
	return result;
}

/* The exception that is set, on stderr. */
static void report(void)
{
	PyObject *type, *error, *traceback;

	PyErr_Fetch(&type, &error, &traceback);
	PyErr_NormalizeException(&type, &error, &traceback);
	if (error && traceback)
		PyException_SetTraceback(error, traceback);
	if (!error || !call("pyinit.initrd.report.traceback", "report", error))
		complain(type ? ((PyTypeObject *)type)->tp_name : "no exception", NULL);
}

static int run(int argc, char **argv)
{
	PyObject *arguments = argument_list(argc, argv);
	PyObject *result = NULL;
	int code;

	if (arguments)
		result = call("pyinit.initrd.main", "main", arguments);
	if (result) {
		code = (int)PyLong_AsLong(result);
		if (!PyErr_Occurred())
			return code;
	}

	report();
	return EXIT_INTERNAL;
}

int main(int argc, char **argv, char **environment)
{
	const int unprotected = start_protect();
	const char *failed;

	if (!snapshot_restore())
		_exit(take_snapshot(complain, report) ? EXIT_INTERNAL : 0);
	if (reserve_standard_descriptors() < 0) {
		complain("descriptors 0 to 2", strerror(errno));
		return EXIT_INTERNAL;
	}
	if (unprotected) {
		complain("read-only memory", strerror(-unprotected));
		return EXIT_INTERNAL;
	}
	failed = snapshot_resume(environment);
	if (failed) {
		complain("start", failed);
		_exit(EXIT_INTERNAL);
	}
	_exit(run(argc, argv));
}
