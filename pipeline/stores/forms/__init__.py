"""The forms that a store can have; `registry.FORMS` holds them."""

from typing import Literal

FormName = Literal["parquet", "folder", "webdataset"]
"""Name of a form that outputs can have."""
