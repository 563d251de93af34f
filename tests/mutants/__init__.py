# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`make mutants`: would a test notice if a check of the boot path were gone?

It changes one condition or flag at a time, in a copy, and runs the tests that belong to the file. A
change that no test notices is printed; the command fails then.

    change.py           what a change is, and reading exceptions.toml
    python_changes.py   the changes of a Python file
    c_changes.py        the changes of a C file
    belongs.py          the tests that belong to a file
    cell.py             the confinement: a changed program reaches nothing but its copy
    worker.py           within the cell: makes one change after the other and runs the tests
    __main__.py         the command
"""
