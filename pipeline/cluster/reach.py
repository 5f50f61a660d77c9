"""Whether a path means the same thing to every process of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pipeline import storage
from pipeline.errors import UserError


def check_reach(urls: Iterable[str], *, shared_disk: bool) -> None:
    """Prove that every node of a cluster that is joined can reach `urls`; empty ones are left out.

    Raises UserError where one is a path on a disk and there are several nodes, unless `shared_disk` says that the disk
    is the same on all of them. Without a cluster, and for URLs alone, nothing is asked.
    """
    paths = [url for url in urls if url and storage.is_local(url)]
    if shared_disk or not paths or not os.environ.get("RAY_ADDRESS"):
        return
    from pipeline.cluster import connection  # not above: who needs no cluster need not wait for the import of Ray

    with connection.connect():
        refuse_paths(paths, len(connection.nodes()))


def refuse_paths(paths: Iterable[str], nodes: int) -> None:
    """Raises UserError where there are paths on a disk and more than one node. A pure function."""
    for path in paths if nodes > 1 else ():
        raise UserError(
            f"{path}: a path on one node's disk, and the cluster has {nodes} nodes, which must all read and write what "
            "the job needs; give a URL such as s3://BUCKET/PREFIX, or add --shared_disk if it is the same disk on "
            "every node"
        )
