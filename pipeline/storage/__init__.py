"""Storage by URL: list, read, exclusively create and wholly replace objects on any known filesystem.

Nothing else in the package opens a path. Notable properties:

- `create` is a true conditional create: one winner among any number of writers, and never a truncated object.
  `check_output` refuses an output on a filesystem without a known primitive for this.
- Everything that crosses a network follows the one retry policy (`storage.retry`), ends in bounded time, and is checked
  against what the server says about it.
- Listings are never cached, since another writer may always be active.

Names are imported when they are first used, so that options are read without fsspec.
"""

from typing import TYPE_CHECKING

from pipeline import lazy

if TYPE_CHECKING:
    from pipeline.storage.entries import Entries, Entry
    from pipeline.storage.exclusive import locked, on_disk
    from pipeline.storage.in_flight import ahead, told
    from pipeline.storage.listing import (
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
    "Entries",
    "Entry",
    "Listing",
    "PassedOver",
    "Tally",
    "Upload",
    "abort_upload",
    "absolute",
    "age_s",
    "ahead",
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
    "locked",
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
    "told",
]

__getattr__ = lazy.names_of(
    __name__,
    {
        "in_flight": ("ahead", "told"),
        "entries": ("Entries", "Entry"),
        "exclusive": ("locked", "on_disk"),
        "listing": (
            "Listing",
            "PassedOver",
            "exists",
            "is_hidden",
            "is_leftover",
            "list_files",
            "list_inputs",
            "passed_over",
            "require_empty",
            "stat_file",
        ),
        "objects": (
            "abort_upload",
            "age_s",
            "check_output",
            "create",
            "delete",
            "grow",
            "list_unfinished_uploads",
            "open_read",
            "read",
            "read_if_there",
            "replace",
        ),
        "s3": ("Upload",),
        "urls": (
            "absolute",
            "escaped",
            "filesystem",
            "is_local",
            "is_memory",
            "is_submitted",
            "join",
            "real",
            "room_for_names",
        ),
        "walk": ("Tally",),
    },
)
