"""Files that describe others, by the names in a listing.

- `00000.parquet` beside `00000.tar`, where each Parquet file has such a tar: img2dataset writes there what the tar's
  `.json` files say, too.
- `00000.parquet` and `00000_stats.json` beside a folder `00000`: img2dataset's, about the images in that folder.
- `metadata.csv`, `.jsonl` or `.parquet` in a folder of images: that of an imagefolder.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import images, storage

OF_TARS = "Parquet files beside tars of their names, whose metadata they repeat"
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of the files that describe the images in their folder and below."""
_PARQUET, _STATS = ".parquet", "_stats.json"


def of_tars(entries: storage.Entries) -> np.ndarray:
    """Return which entries are Parquet files that repeat the metadata of tars, [len(entries)] bool."""
    shards = _ending(entries, _PARQUET)
    if not shards.any() or not _ending(entries, ".tar").any():
        return np.zeros(len(entries), bool)
    names = entries.names.filter(pa.array(shards)).to_pylist()
    return (
        shards if all(entries.has(f"{name[: -len(_PARQUET)]}.tar") for name in names) else np.zeros(len(entries), bool)
    )


def of_images(entries: storage.Entries) -> np.ndarray:
    """Return which entries describe images in the same listing, [len(entries)] bool."""
    found = np.zeros(len(entries), bool)
    endings = (*METADATA, _PARQUET) if _ending(entries, _STATS).any() else METADATA
    for ending in endings:
        found |= _ending(entries, ending)
    for at in np.flatnonzero(found).tolist():
        name = entries[at].name
        folder, stem = name[: len(name) - len(name.rpartition("/")[2])], name[: -len(_PARQUET)]
        if name.rpartition("/")[2] in METADATA:
            found[at] = _has_image(entries, folder)
        else:
            found[at] = entries.has(f"{stem}{_STATS}") and _has_image(entries, f"{stem}/")
    return found


def _ending(entries: storage.Entries, ending: str) -> np.ndarray:
    return np.array(pc.ends_with(entries.names, ending), bool)


def _has_image(entries: storage.Entries, folder: str) -> bool:
    below = entries[entries.below(folder)] if folder else entries
    return any(name.lower().endswith(images.EXTENSIONS) for names in below.name_batches() for name in names)
