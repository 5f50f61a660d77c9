"""Read a dataset again and prove it whole: every input accounted for, every checksum right, every key unique."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.cli import DONE, FAILED, run_job
from jobs.ending import end
from pipeline import storage
from pipeline.terminal import print_line
from pipeline.verify.config import VerifyConfig

if TYPE_CHECKING:
    from pipeline.verify.job import Verdict

MOST_LINES = 20


def run(config: VerifyConfig) -> int:
    """Print a verdict on the dataset and on each of its later versions; return 0 where all are whole, else 1."""
    from pipeline.stores import versions
    from pipeline.versions import retention

    url = storage.absolute(config.input)
    if config.keep_versions is not None and config.clean:
        retention.go_on(url)
    whole = _verify(config, config.input)
    marked = set(versions.marks(url))
    for version in versions.begun(url):
        if version.number in marked:
            whole &= _verify(config, versions.root_of(url, version.number))
        else:
            print_line(f"{url}: {version}: begun and not finished, so nobody reads it, and it was not verified")
    if config.keep_versions is not None:
        _keep_versions(config, url, whole)
    return DONE if whole else FAILED


def _keep_versions(config: VerifyConfig, url: str, whole: bool) -> None:
    """Print which data of old versions is not kept, and delete it where that is asked for and all is whole."""
    from pipeline.versions import retention

    assert config.keep_versions is not None
    old = retention.old_data(url, config.keep_versions)
    delete = config.clean and whole
    _list("deleted" if delete else "would delete", [str(each) for each in old])
    size = f"{len(old)} of them, {sum(each.size for each in old) / 1e6:.1f} MB"
    if not old:
        print_line(f"{url}: no data of versions that are not kept")
    elif delete:
        retention.give_up(url, old)
        print_line(f"{url}: deleted the data of old versions: {size}")
    elif config.clean:
        print_line(f"{url}: nothing was deleted, since not all that is read is whole")
    else:
        print_line(f"{url}: --clean would delete the data of old versions: {size}")


def _verify(config: VerifyConfig, url: str) -> bool:
    """Print the verdict on one output; return True where it is whole."""
    from pipeline.verify.job import verify
    from pipeline.verify.repair import clean

    verdict = verify(url, source=config.source)
    _list("fault", [f"{fault}; {fault.mend}" for fault in verdict.faults])
    _list("passed over", verdict.passed_over)
    left = [f"{entry.name} ({entry.size} bytes)" for entry in verdict.leftovers]
    left += [f"{upload.name} (an upload that was never completed)" for upload in verdict.uploads]
    _list("left behind by a kill, in nobody's way", left)
    total, planned = verdict.total, len(verdict.records.units)
    units = f"{total.units} units" if total.units == planned else f"{total.units} of {planned} units"
    further = f" + {total.further} further rows" if total.further else ""
    print_line(
        f"{url}: {total.inputs} inputs{further} = {total.ok} ok + {total.quarantined} quarantined"
        f" + {total.skipped} skipped, in {units}: "
        + (f"NOT WHOLE, {len(verdict.faults)} faults" if verdict.faults else "whole")
    )
    if config.clean:
        print_line(f"removed {clean(verdict, time.time())} of {len(left)} leftovers")
    if config.repair:
        _repair(verdict)
    return not verdict.faults


def _repair(verdict: Verdict) -> None:
    from pipeline.verify.repair import repair

    done = repair(verdict)
    _list("removed", done.removed)
    _list("written anew", done.written)
    _list("left as it is", [f"{fault}; {remedy}" for fault, remedy in done.left])
    if done.removed:
        print_line("now run the job's command again: it makes anew what was removed, and nothing else")


def _list(title: str, lines: Sequence[str]) -> None:
    for line in lines[:MOST_LINES]:
        print_line(f"{title}: {line}")
    if len(lines) > MOST_LINES:
        print_line(f"… and {len(lines) - MOST_LINES} more ({title})")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(VerifyConfig, run, name="verify", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
