"""A URL becomes a filesystem; objects are listed, read, created exclusively and replaced whole.

Nothing else in the package opens a path. What is notable here:

- `create` is a true conditional create: one winner, however many try, and never a truncated object. A filesystem for
  which no such primitive is known is refused as an output by `check_output`.
- Everything that crosses a network goes through the one retry policy (`storage.retry`), ends in bounded time, and is
  compared with what the server says of it.
- Listings are never cached: another writer is always assumed.
"""

from pipeline.storage.exclusive import on_disk
from pipeline.storage.listing import (
    Entry,
    Listing,
    PassedOver,
    exists,
    is_hidden,
    is_leftover,
    list_files,
    list_inputs,
    passed_over,
    require_empty,
    stat_file,
)
from pipeline.storage.objects import (
    abort_upload,
    age_s,
    check_output,
    create,
    delete,
    grow,
    list_unfinished_uploads,
    open_read,
    read,
    read_if_there,
    replace,
)
from pipeline.storage.s3 import Upload
from pipeline.storage.urls import (
    absolute,
    escaped,
    filesystem,
    is_local,
    is_memory,
    is_submitted,
    join,
    real,
    room_for_names,
)
from pipeline.storage.walk import Tally

__all__ = [
    "Entry",
    "Listing",
    "PassedOver",
    "Tally",
    "Upload",
    "abort_upload",
    "absolute",
    "age_s",
    "check_output",
    "create",
    "delete",
    "escaped",
    "exists",
    "filesystem",
    "grow",
    "is_hidden",
    "is_leftover",
    "is_local",
    "is_memory",
    "is_submitted",
    "join",
    "list_files",
    "list_inputs",
    "list_unfinished_uploads",
    "on_disk",
    "open_read",
    "passed_over",
    "read",
    "read_if_there",
    "real",
    "replace",
    "require_empty",
    "room_for_names",
    "stat_file",
]
