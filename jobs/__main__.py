"""Run `transdomain NAME …`, the same as `python -m jobs.NAME …`."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

from jobs.ending import end
from pipeline.terminal import print_lines, print_notice

JOBS = {
    "pack": "folders, pairs, labels or Parquet stores into a sharded store",
    "inspect": "look through a store: formats, sizes, columns, duplicates, broken images",
    "train": "pix2pix or CycleGAN from a store, by Ray Train",
    "import": "published checkpoints (.pth) into a model bundle",
    "translate": "a store by a trained model, each image exactly once",
    "augment": "what is new since the last slot, by several models; for a schedule",
    "evaluate": "a translated store against its targets",
    "export": "a trained generator to ONNX or torch.export, for other programs",
    "verify": "prove a dataset whole",
    "benchmark": "throughput against this machine's own limits",
    "demo": "all of it, on a small data set",
    "submit": "any of these on a running Ray cluster",
}


def main() -> int:
    """Run the job that the command line names first."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in JOBS:
        return importlib.import_module(f"jobs.{name}").main(sys.argv[2:])
    width = max(map(len, JOBS))
    lines = [f"  {job:<{width}}  {what}" for job, what in JOBS.items()]
    text = "\n".join(["usage: transdomain JOB [OPTIONS]   (transdomain JOB --help says more)", "", *lines])
    if name in ("-h", "--help"):
        print_lines(text)
        return 0
    print_notice(f"transdomain: there is no job {name!r}; {', '.join(JOBS)} are known")
    return 2


def command() -> NoReturn:
    """Run the named job and end this process with its exit code."""
    end(main())


if __name__ == "__main__":
    command()
