# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which names are looked up: in frozen code, in object files, in the interpreter's source."""

import marshal
import sysconfig
from pathlib import Path

import pytest

from pyinit.host.frozen import named
from tests.frozen.conftest import run

C_CODE = """
#include <Python.h>
static PyObject *nothing(PyObject *self, PyObject *unused)
{
	return PyObject_GetAttrString(unused, "looked_up");
}
static const char *const words[] = {"in_a_list"};
static const char array[] = "in_an_array";
static PyMethodDef methods[] = {
	{"by_table", nothing, METH_O, "documented"},
	{"by_both", nothing, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};
static PyMethodDef others[] = {{"of_no_type", nothing, METH_O, NULL}, {NULL, NULL, 0, NULL}};
PyTypeObject type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "x", .tp_methods = methods};
struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_methods = others};
PyObject *use(PyObject *of);
PyObject *use(PyObject *of)
{
	return Py_BuildValue(words[0], array, PyObject_GetAttrString(of, "by_both"), others);
}
"""


@pytest.mark.parametrize("flags", [[], ["-ffunction-sections", "-fdata-sections"]])
def test_a_table_gives_names_and_does_not_look_them_up(tmp_path: Path, flags: list[str]) -> None:
    source, target = tmp_path / "x.c", tmp_path / "x.o"
    source.write_text(C_CODE)
    include = f"-I{sysconfig.get_path('include')}"
    done = run("gcc", "-Os", "-fPIC", *flags, include, "-c", source, "-o", target)
    assert done.returncode == 0, done.stderr
    archive = tmp_path / "x.a"
    run("ar", "rcD", archive, target)
    for file in (target, archive):
        found = set(named.of_objects([file]))
        assert {"looked_up", "by_both", "in_a_list", "in_an_array"} <= found
        assert not {"by_table", "of_no_type"} & found


def test_all_that_code_may_name() -> None:
    text = "def f(a, *, key):\n    return a.name(word=1), getattr(a, 'text'), 'said of it'"
    found = {*named.of_code(marshal.dumps(compile(text, "x", "exec")))}
    assert {"f", "a", "key", "name", "word", "getattr", "text"} <= found
    assert not {"said", "of", "it"} & found


def test_what_c_code_only_says(tmp_path: Path) -> None:
    (tmp_path / "Objects").mkdir()
    (tmp_path / "Objects" / "x.c").write_text(
        '_PyArg_CheckPositional("said", 1, 0, 1);\n'
        'static _PyArg_Parser _parser = {NULL, _keywords, "parsed", 0};\n'
        '{"entry", (PyCFunction)x, METH_O, x_doc},\n'
        '_PyArg_BadArgument("both", "argument", "str", x);\n'
        'PyObject_GetAttrString(x, "both");\n'
    )
    assert named.only_said(tmp_path) == {"said", "parsed", "entry"}
