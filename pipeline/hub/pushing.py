"""`jobs.export --to`: a whole bundle, or the current data of a finished output, in a repository on the hub."""

from __future__ import annotations

from pipeline.exchange.export_config import ExportConfig
from pipeline.hub.contents import of_bundle, of_output
from pipeline.hub.repository import open_hub, push_files, require_client, url_of
from pipeline.storage.retry import preflight


def push(config: ExportConfig) -> str:
    """Push what `config` names and return one line that says what was done.

    Readers of the repository see what it held before until the last commit names the new files. A push that was ended
    goes on: files that are there are not sent again. Raises UserError where what is to be pushed is not whole, or where
    the hub refuses it, and StorageError or DamagedError where the push fails; then the last commit was not made.
    """
    to = config.repository
    require_client()
    with preflight(config.bundle or config.input):
        contents = of_bundle(config) if to.kind == "model" else of_output(config, url_of(to))
    hub = open_hub(to, public=config.public)
    there = frozenset(hub.files())
    gone = [path for path in there if contents.is_stale(path, there)]
    sent = push_files(hub, contents.files, contents.last, gone, contents.title)
    every = [*contents.files, *contents.last]
    size = sum(file.size for file in every)
    what = f"{len(every)} files, {size / 1e6:.1f} MB" if sent or gone else f"all {len(every)} files were there already"
    kept = f", {len(every) - sent} of them were there already" if sent and sent < len(every) else ""
    deleted = f", {len(gone)} files of an earlier push deleted" if gone else ""
    seen = "private" if hub.is_private else "everybody can read it"
    return f"{config.to}: {'pushed: ' if sent or gone else ''}{what}{kept}{deleted}; {seen}: {url_of(to)}"
