"""Turn checkpoints of the reference implementation (.pth) into a model bundle; refuse what does not fit exactly."""

# ruff: noqa: N999 (a job is called by its name, and this one's is a keyword)
from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.exchange.import_config import ImportConfig
from pipeline.terminal import print_line


def run(config: ImportConfig) -> int:
    """Print what was recognised, write the bundle, and print its fingerprint."""
    from pipeline.exchange.importing import prepare

    plan = prepare(config)
    for checkpoint in plan.checkpoints:
        print_line(str(checkpoint))
        for note in checkpoint.recognised.notes:
            print_line(f"  {note}")
    if plan.is_there:
        print_line(f"{plan}: there already, nothing to do")
    elif config.dry_run:
        print_line(f"{plan}: a dry run, nothing written")
    else:
        plan.write()
        print_line(f"{plan}: written")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(ImportConfig, run, name="import", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
