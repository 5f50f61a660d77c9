"""Write a bundle's generator as an ONNX model or a torch.export program, or push a bundle or a dataset to the hub.

A file is written after comparing it with the original. It takes [batch, channels, height, width] fp32 in [-1, 1] and
returns the same, for any batch and any height and width that are multiples of what its metadata says. Each image is
translated with its own statistics, as in jobs.translate. ONNX needs `pip install 'transdomain[onnx]'`.

With --to, the files of a bundle, or the current data of a finished output with its card and Croissant metadata, are
pushed to the Hugging Face hub, which needs `pip install 'transdomain[hub]'`; what is there already is not sent again.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import DONE, run_job
from jobs.ending import end
from pipeline.exchange.export_config import ExportConfig
from pipeline.terminal import print_line


def run(config: ExportConfig) -> int:
    """Export and print what was written."""
    if config.to:
        from pipeline.hub.pushing import push

        print_line(push(config))
    else:
        from pipeline.exchange.exporting import export

        print_line(export(config))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(ExportConfig, run, name="export", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    end(main())
