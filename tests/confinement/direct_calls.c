/* System calls without Python between: what an agent's native code can do. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <unistd.h>

/* An integer stands for itself, a bytearray for its address. */
static int word_of(PyObject *value, long *word)
{
    if (PyByteArray_Check(value)) {
        *word = (long)PyByteArray_AS_STRING(value);
        return 0;
    }
    *word = (long)PyLong_AsUnsignedLongMask(value);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *call(PyObject *self, PyObject *args)
{
    long words[7] = {0};
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    for (Py_ssize_t at = 0; at < count && at < 7; at++)
        if (word_of(PyTuple_GET_ITEM(args, at), &words[at]) < 0)
            return NULL;
    long result = syscall(words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
    return PyLong_FromLong(result < 0 ? -(long)errno : result);
}

static PyObject *address(PyObject *self, PyObject *value)
{
    long word;
    return word_of(value, &word) < 0 ? NULL : PyLong_FromLong(word);
}

/* The way of 32-bit programs, whose calls have other numbers. */
static PyObject *call_32_bit(PyObject *self, PyObject *value)
{
    long result = -ENOSYS;
#ifdef __x86_64__
    long number = PyLong_AsLong(value);
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(0), "c"(0), "d"(0) : "memory");
#endif
    return PyLong_FromLong(result);
}

static PyMethodDef methods[] = {
    {"call", call, METH_VARARGS, "A system call; gives its result, or the negative errno."},
    {"address", address, METH_O, "Where a bytearray lies."},
    {"call_32_bit", call_32_bit, METH_O, "A system call without arguments, as 32-bit programs do."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "direct_calls", NULL, -1, methods};

PyMODINIT_FUNC PyInit_direct_calls(void)
{
    return PyModule_Create(&module);
}
