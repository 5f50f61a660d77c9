"""Content of a report, before it has a form."""

from pipeline.report.content.chart import Chart, Points, histogram_bins
from pipeline.report.content.gallery import Gallery, GalleryRow
from pipeline.report.content.report import (
    QuarantineLine,
    Report,
    Table,
    numeric_columns,
    quarantine_heading,
    quarantine_rows,
    shorten,
)

__all__ = [
    "Chart",
    "Gallery",
    "GalleryRow",
    "Points",
    "QuarantineLine",
    "Report",
    "Table",
    "histogram_bins",
    "numeric_columns",
    "quarantine_heading",
    "quarantine_rows",
    "shorten",
]
