/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cfs_python.h"

#include <errno.h>
#include <string.h>

/* These two: -1 with an exception set. */
static int pe_from_fd(int fd, struct cfs_pe *pe)
{
	const char *why = NULL;
	int error;

	UNLOCKED(error, cfs_pe_parse_fd(fd, pe, &why));
	if (error < 0)
		fail(error, why, NULL);
	return error < 0 ? -1 : 0;
}

/* A fd or the whole file's bytes. */
static int pe_from(PyObject *source, struct cfs_pe *pe)
{
	const char *why = NULL;
	Py_ssize_t size;
	char *data;
	int fd, error;

	if (!PyBytes_Check(source))
		return PyArg_Parse(source, "i", &fd) ? pe_from_fd(fd, pe) : -1;
	if (PyBytes_AsStringAndSize(source, &data, &size) < 0)
		return -1;
	error = cfs_pe_parse_buffer(data, (size_t)size, pe, &why);
	if (error < 0)
		fail(error, why, NULL);
	return error < 0 ? -1 : 0;
}

static PyObject *from_section(const struct cfs_pe_section *section)
{
	return Py_BuildValue("y#IIIII", section->name, (Py_ssize_t)sizeof(section->name),
			     section->virtual_size, section->virtual_address, section->raw_size,
			     section->raw_pointer, section->characteristics);
}

static PyObject *from_headers(const struct cfs_pe *pe)
{
	return Py_BuildValue(
		"{sKsHsHsIsIsIsIsKsKsKsKsKsKsI}",
		"file_size", (unsigned long long)pe->file_size,
		"machine", pe->machine,
		"magic", pe->magic,
		"file_alignment", pe->file_alignment,
		"section_alignment", pe->section_alignment,
		"size_of_image", pe->size_of_image,
		"size_of_headers", pe->size_of_headers,
		"header_offset", (unsigned long long)pe->header_offset,
		"checksum_offset", (unsigned long long)pe->checksum_offset,
		"certificate_directory", (unsigned long long)pe->certificate_directory,
		"certificate_offset", (unsigned long long)pe->certificate_offset,
		"certificate_size", (unsigned long long)pe->certificate_size,
		"section_table", (unsigned long long)pe->section_table,
		"section_count", pe->section_count);
}

static PyObject *pe_parse(PyObject *module, PyObject *args)
{
	PyObject *source, *sections, *section;
	struct cfs_pe pe;

	(void)module;
	if (!PyArg_ParseTuple(args, "O:pe_parse", &source) || pe_from(source, &pe) < 0)
		return NULL;
	sections = PyList_New(0);
	if (!sections)
		return NULL;
	for (uint32_t i = 0; i < pe.section_count; i++) {
		int error;

		section = from_section(&pe.sections[i]);
		error = section ? PyList_Append(sections, section) : -1;
		Py_XDECREF(section);
		if (error < 0) {
			Py_DECREF(sections);
			return NULL;
		}
	}
	return Py_BuildValue("NN", from_headers(&pe), sections);
}

static PyObject *pe_find(PyObject *module, PyObject *args)
{
	const char *why = NULL;
	PyObject *source;
	const char *name;
	struct cfs_pe pe;
	int profile, index;

	(void)module;
	if (!PyArg_ParseTuple(args, "Osi:pe_find", &source, &name, &profile) ||
	    pe_from(source, &pe) < 0)
		return NULL;
	index = cfs_pe_find(&pe, name, profile, &why);
	return int_or_fail(index, why, PyTuple_GetItem(args, 1));
}

static PyObject *pe_section_read(PyObject *module, PyObject *args)
{
	PyObject *result = NULL;
	char why[CFS_WHY_MAX];
	Py_ssize_t capacity;
	int fd, profile, length;
	const char *name;
	uint8_t *room;

	(void)module;
	if (!PyArg_ParseTuple(args, "isin:pe_section_read", &fd, &name, &profile, &capacity))
		return NULL;
	if (capacity < 0)
		return fail(-EMSGSIZE, NULL, PyTuple_GetItem(args, 1));
	if (capacity > CFS_CONFINED_MAX)
		capacity = CFS_CONFINED_MAX;
	room = PyMem_Malloc((size_t)capacity + 1);
	if (!room)
		return PyErr_NoMemory();
	UNLOCKED(length, cfs_pe_section_read_confined(fd, name, profile, room, (size_t)capacity, why));
	if (length >= 0)
		result = PyBytes_FromStringAndSize((const char *)room, length);
	else
		fail(length, why, PyTuple_GetItem(args, 1));
	PyMem_Free(room);
	return result;
}

static PyObject *uki_prove(PyObject *module, PyObject *args)
{
	struct cfs_uki_proof proof;
	uint8_t unused[CFS_DIGEST_MAX];
	int fd, profile, error;
	char why[CFS_WHY_MAX];
	PyObject *sections;
	const char *log;
	Py_ssize_t length, size;
	uint16_t bank;

	(void)module;
	if (!PyArg_ParseTuple(args, "iiO&y#:uki_prove", &fd, &profile, to_u16, &bank, &log, &length))
		return NULL;
	UNLOCKED(error, cfs_uki_prove_confined(fd, profile, bank, (const uint8_t *)log,
					       (size_t)length, &proof, why));
	if (error < 0)
		return fail(error, why, NULL);
	size = cfs_sha(bank, NULL, 0, unused);
	/* Whatever the child answers. "N" takes NULL for the error that it is. */
	sections = PyUnicode_DecodeUTF8(proof.sections, (Py_ssize_t)strlen(proof.sections),
					"surrogateescape");
	return Py_BuildValue("y#y#y#y#Ny#", proof.pcr_4, size, proof.pcr_11, size, proof.hash, size,
			     proof.has_image ? proof.image : NULL, size, sections,
			     proof.payload_size > 0 ? proof.payload : NULL,
			     (Py_ssize_t)proof.payload_size);
}

PyMethodDef pe_methods[] = {
	{ "pe_parse", pe_parse, METH_VARARGS, NULL },
	{ "pe_find", pe_find, METH_VARARGS, NULL },
	{ "pe_section_read", pe_section_read, METH_VARARGS, NULL },
	{ "uki_prove", uki_prove, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
