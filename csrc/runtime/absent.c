/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What is left out of the interpreter, and what stands in its place.
 *
 * libpython3.x.a is an archive: the linker takes an object file out of it only to satisfy a name
 * that is still undefined. The names below are all that the rest of the interpreter wants from the
 * parser, the compiler, _io, the path configuration, faulthandler, tracemalloc and signal
 * handling; defined here, those object files stay in the archive. A name missed here brings its
 * object file back: then the link fails (a name defined twice), or the check of the link map does.
 * Python 3.11 and 3.13 want slightly different sets; the sum of both does no harm.
 *
 * Nothing is quietly wrong: what frozen code could reach (compile(), eval() of text, open() by
 * _io) ends the program with the name of what is absent. The freezer refuses code that names it.
 */
#include <Python.h>

#include <errno.h>
#include <grp.h>
#include <string.h>

_Noreturn static void absent(const char *name)
{
	Py_FatalError(name);
}

/* Called only by what frozen code must not do. */
#define ABSENT(name)                 \
	_Noreturn void name(void);   \
	_Noreturn void name(void)    \
	{                            \
		absent("absent: " #name); \
	}

/* Called in every start or by ordinary code, and has nothing to do here. */
#define NOTHING(name)         \
	void name(void);      \
	void name(void)       \
	{                     \
	}
#define NOTHING_0(name)       \
	int name(void);       \
	int name(void)        \
	{                     \
		return 0;     \
	}
#define NOTHING_OK(name)                 \
	PyStatus name(void);             \
	PyStatus name(void)              \
	{                                \
		return PyStatus_Ok();    \
	}

/* The parser and the arena of its trees */
ABSENT(_PyParser_ASTFromFile)
ABSENT(_PyParser_ASTFromString)
ABSENT(_PyParser_InteractiveASTFromFile)
ABSENT(_PyPegen_byte_offset_to_character_offset)
ABSENT(_PyTokenizer_FindEncodingFilename)
ABSENT(_PyArena_New)
ABSENT(_PyArena_Free)
int (*PyOS_InputHook)(void);

char *PyOS_Readline(FILE *in, FILE *out, const char *prompt)
{
	(void)in, (void)out, (void)prompt;
	absent("absent: PyOS_Readline");
}

/* The compiler (its opcode tables: opcodes.c) */
ABSENT(PyAST_Check)
ABSENT(PyAST_mod2obj)
ABSENT(PyAST_obj2mod)
ABSENT(_PyAST_Compile)
ABSENT(_PyAST_Fini)
ABSENT(_PyAST_Optimize)
ABSENT(_PyAST_Validate)
ABSENT(_PyCompile_AstOptimize)

int PyCompile_OpcodeStackEffect(int opcode, int argument) /* of frame.f_lineno = n */
{
	(void)opcode, (void)argument;
	absent("absent: PyCompile_OpcodeStackEffect");
}

/* Types of the compiler that 3.11 and 3.13 make ready at every start */
extern PyTypeObject PySTEntry_Type, _PyInstructionSequence_Type;
PyTypeObject PySTEntry_Type = {PyVarObject_HEAD_INIT(&PyType_Type, 0).tp_name = "symtable entry"};
PyTypeObject _PyInstructionSequence_Type = {
	PyVarObject_HEAD_INIT(&PyType_Type, 0).tp_name = "InstructionSequence"};

/* `__name` in the __slots__ of class C is `_C__name`: wanted by the making of types. */
PyObject *_Py_Mangle(PyObject *class_name, PyObject *name);
PyObject *_Py_Mangle(PyObject *class_name, PyObject *name)
{
	const char *class_text = class_name ? PyUnicode_AsUTF8(class_name) : NULL;
	const char *text = PyUnicode_AsUTF8(name);
	size_t length = text ? strlen(text) : 0;

	if (!text || PyErr_Occurred())
		return NULL;
	if (!class_text || strncmp(text, "__", 2) != 0 || strcmp(text + length - 2, "__") == 0 ||
	    strchr(text, '.'))
		return Py_NewRef(name);
	class_text += strspn(class_text, "_");
	if (!*class_text)
		return Py_NewRef(name);
	return PyUnicode_FromFormat("_%s%s", class_text, text);
}

/* _io */
ABSENT(_PyIO_Fini)

/* Paths: the search path is empty and stays so */
NOTHING_OK(_PyConfig_InitPathConfig)

/* Frozen code comes as marshal data: there is no deep-frozen table (3.11) */
NOTHING_0(_Py_Deepfreeze_Init)
NOTHING(_Py_Deepfreeze_Fini)

/* faulthandler, and tracemalloc where it is not part of the core (3.11) */
NOTHING_OK(_PyFaulthandler_Init)
NOTHING(_PyFaulthandler_Fini)
#if PY_VERSION_HEX < 0x030d0000
NOTHING_0(_PyTraceMalloc_Init)
NOTHING(_PyTraceMalloc_Fini)
NOTHING_0(_PyTraceMalloc_NewReference)
NOTHING(_PyMem_DumpTraceback)
#endif

/* atexit: the interpreter is never finalized */
NOTHING_OK(_PyAtExit_Init)
NOTHING(_PyAtExit_Call)
NOTHING(_PyAtExit_Fini)

/* Threads: there is one, and a forked process has no others to forget (3.13) */
NOTHING(_PyThread_AfterFork)

/* Signals: no handler is installed, so none is ever due */
NOTHING_0(PyErr_CheckSignals)
NOTHING_0(_PyErr_CheckSignalsTstate)
NOTHING_0(_PySignal_Init)
NOTHING(_PySignal_Fini)
NOTHING(_PySignal_AfterFork)

int PyErr_SetInterruptEx(int signal)
{
	(void)signal;
	return -1;
}

/* Texts of sys.version and sys.copyright; the build's date is one of them */
#define NO_TEXT(name)           \
	const char *name(void); \
	const char *name(void)  \
	{                       \
		return "";      \
	}
NO_TEXT(Py_GetBuildInfo)
NO_TEXT(Py_GetCompiler)
NO_TEXT(Py_GetCopyright)
NO_TEXT(_Py_gitidentifier)
NO_TEXT(_Py_gitversion)

/* Shared objects */
extern const char *_PyImport_DynLoadFiletab[];
const char *_PyImport_DynLoadFiletab[] = {NULL};
ABSENT(_PyImport_FindSharedFuncptr)

/* The interpreter's own words for an exception that nobody caught: sys.stderr is not there. Ours are
 * Python (pyinit.initrd.report.traceback). (ld --wrap) */
void __wrap_PyErr_Print(void);
void __wrap_PyErr_Print(void)
{
	PyErr_Clear();
}

void __wrap_PyErr_Display(PyObject *type, PyObject *error, PyObject *traceback);
void __wrap_PyErr_Display(PyObject *type, PyObject *error, PyObject *traceback)
{
	(void)type, (void)error, (void)traceback;
}

/* Of libm: int() asks how many digits a number of some base may have. Powers of two are read in
 * another way, and the freezer refuses all other bases but ten. (ld --wrap) */
double __wrap_log(double number);
double __wrap_log(double number)
{
	if (number == 10.0)
		return __builtin_log(10.0);
	if (number == (double)PyLong_BASE)
		return __builtin_log((double)PyLong_BASE);
	absent("absent: log");
}

/* Of libc: the user database, whose static form brings name services and a resolver with it, and
 * wants shared objects of the very same libc at run time. posix has functions that call these. */
int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count)
{
	(void)user, (void)group, (void)groups, (void)count;
	errno = ENOSYS;
	return -1;
}

int initgroups(const char *user, gid_t group)
{
	(void)user, (void)group;
	errno = ENOSYS;
	return -1;
}
