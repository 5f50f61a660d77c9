"""Pack images, pairs and labels into a sharded store; quarantine bad images with their reason."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.pack.config import PackConfig
from pipeline.storage.retry import preflight


def pack(config: PackConfig) -> int:
    """Run the job and print how each store stands."""
    from pipeline.engine import launch
    from pipeline.pack.job import pack_jobs

    with preflight(config.input):
        jobs = pack_jobs(config)
    launch.run_engine(lambda: jobs, config, [config.input_b] if config.input_b else [])
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(PackConfig, pack, name="pack", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
