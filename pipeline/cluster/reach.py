"""Check that a path means the same thing to every process of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pipeline import storage
from pipeline.errors import UserError


def check_reach(urls: Iterable[str], *, shared_disk: bool) -> None:
    """Check that every node of a joined cluster can reach `urls`; empty ones are ignored.

    Raises UserError where one is a local path and there are several nodes, unless `shared_disk` says that all nodes
    share the disk. Does nothing without a cluster, or where no URL is a local path.
    """
    paths = [url for url in urls if url and storage.is_local(url)]
    if shared_disk or not paths or not os.environ.get("RAY_ADDRESS"):
        return
    from pipeline.cluster import connection  # imported here: runs without a cluster need not wait for Ray's import

    with connection.connect():
        refuse_paths(paths, len(connection.nodes()))


def refuse_paths(paths: Iterable[str], nodes: int) -> None:
    """Raise UserError where there are local paths and more than one node. A pure function."""
    for path in paths if nodes > 1 else ():
        raise UserError(
            f"{path}: a path on one node's disk, and the cluster has {nodes} nodes, which must all read and write what "
            "the job needs; give a URL such as s3://BUCKET/PREFIX, or add --shared_disk if it is the same disk on "
            "every node"
        )
