"""Write a bundle's generator as an ONNX model or a program of torch.export, compared with the original first.

The file takes [batch, channels, height, width] fp32 in [-1, 1] and gives the same, for any batch and any height and
width that are multiples of what its metadata says; each image is translated by its own statistics, as jobs.translate
does it. ONNX needs `pip install 'transdomain[onnx]'`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.cli import DONE, run_job
from pipeline.models.export_config import ExportConfig
from pipeline.models.exporting import export
from pipeline.terminal import tell


def run(config: ExportConfig) -> int:
    """Export and print what was written."""
    tell(export(config))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(ExportConfig, run, name="export", description=__doc__ or "", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
