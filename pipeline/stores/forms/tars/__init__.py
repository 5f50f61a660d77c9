"""Tars as WebDataset has them: headers, samples, columns, and how they are written."""
