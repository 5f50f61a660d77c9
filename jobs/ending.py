"""End of a job's process, in the one way that cannot spoil its exit code."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

OUTPUT_LOST = 120
"""Exit code where the last lines could not be written; Python ends with the same."""


def end(code: int) -> NoReturn:
    """End this process with `code`: run what is registered for the end of it, flush the output, and leave.

    Without this, Python tears down its interpreter while threads of libraries still run. A thread of Arrow that asks
    for the interpreter's lock at that moment is ended inside C++ and takes the process with it, which then exits with
    134 in place of `code` (https://github.com/python/cpython/issues/87135): a job that did all its work looks failed.
    """
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            code = code or OUTPUT_LOST
    os._exit(code)
