/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cfs_python.h"

static PyObject *digest_parse(PyObject *module, PyObject *args)
{
	struct cfs_digest digest;
	const char *text;
	Py_ssize_t size;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "y#:digest_parse", &text, &size))
		return NULL;
	error = cfs_digest_parse(text, (size_t)size, &digest);
	return error < 0 ? fail(error, NULL, NULL) : from_digest(&digest);
}

static PyObject *digest_format(PyObject *module, PyObject *args)
{
	char text[CFS_DIGEST_HEX_MAX];
	struct cfs_digest digest;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&:digest_format", to_digest, &digest))
		return NULL;
	error = cfs_digest_format(&digest, text);
	return error < 0 ? fail(error, NULL, NULL) : PyUnicode_FromString(text);
}

static PyObject *digest_equal(PyObject *module, PyObject *args)
{
	struct cfs_digest a, b;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&O&:digest_equal", to_digest, &a, to_digest, &b))
		return NULL;
	return PyBool_FromLong(cfs_digest_equal(&a, &b));
}

static PyObject *sha(PyObject *module, PyObject *args)
{
	uint8_t digest[CFS_DIGEST_MAX];
	uint16_t bank;
	const char *data;
	Py_ssize_t size;
	int result;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&y#:sha", to_u16, &bank, &data, &size))
		return NULL;
	result = cfs_sha(bank, (const uint8_t *)data, (size_t)size, digest);
	if (result < 0)
		return fail(result, NULL, NULL);
	return PyBytes_FromStringAndSize((const char *)digest, result);
}

static PyObject *verity_measure(PyObject *module, PyObject *args)
{
	struct cfs_digest digest;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:verity_measure", &fd))
		return NULL;
	UNLOCKED(error, cfs_verity_measure(fd, &digest));
	return error < 0 ? fail(error, NULL, NULL) : from_digest(&digest);
}

static PyObject *verity_enable(PyObject *module, PyObject *args)
{
	uint16_t algorithm;
	uint32_t block_size;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&O&:verity_enable", &fd, to_u16, &algorithm, to_u32,
			      &block_size))
		return NULL;
	UNLOCKED(error, cfs_verity_enable(fd, algorithm, block_size));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *merkle_digest(PyObject *module, PyObject *args)
{
	struct cfs_digest digest;
	uint16_t algorithm;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&:merkle_digest", &fd, to_u16, &algorithm))
		return NULL;
	UNLOCKED(error, cfs_merkle_digest_fd(fd, algorithm, &digest));
	return error < 0 ? fail(error, NULL, NULL) : from_digest(&digest);
}

PyMethodDef digest_methods[] = {
	{ "digest_parse", digest_parse, METH_VARARGS, NULL },
	{ "digest_format", digest_format, METH_VARARGS, NULL },
	{ "digest_equal", digest_equal, METH_VARARGS, NULL },
	{ "sha", sha, METH_VARARGS, NULL },
	{ "verity_measure", verity_measure, METH_VARARGS, NULL },
	{ "verity_enable", verity_enable, METH_VARARGS, NULL },
	{ "merkle_digest", merkle_digest, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
