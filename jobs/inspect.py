"""Look through a store: counts, columns, formats, sizes, what is not read, what does not decode, duplicates.

Writes nothing but what --json and --report name.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.inspect.config import InspectConfig
from pipeline.storage.retry import preflight
from pipeline.terminal import print_line, print_lines


def run(config: InspectConfig) -> int:
    """Print what is in the stores, and write it where that is asked for."""
    import json

    from pipeline import storage
    from pipeline.inspect.job import inspect, open_splits
    from pipeline.inspect.page import report_of
    from pipeline.report.html import render_report
    from pipeline.report.text import render_text

    with preflight(", ".join(config.input)):
        splits = open_splits(config.input, config.store_options)
    found = inspect(splits, config)
    report = report_of(found)
    print_lines(render_text(report, width=80))
    for url, make in (
        (config.json, lambda: json.dumps(found.record(), indent=1)),
        (config.report, lambda: render_report(report)),
    ):
        if url:
            storage.replace(storage.absolute(url), make().encode())
            print_line(f"wrote {url}")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(InspectConfig, run, name="inspect", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
