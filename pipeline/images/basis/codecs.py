"""The library imagecodecs, imported when it is first needed: that takes a moment, and many stores hold only JPEG."""

from __future__ import annotations

import functools
import logging
from typing import Any


@functools.cache
def imagecodecs() -> Any:
    """Return the library. Its warnings about oddities of files are not logged: they would be one line an image."""
    import imagecodecs as library

    logging.getLogger("imagecodecs").setLevel(logging.ERROR)
    return library
