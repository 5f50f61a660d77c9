"""One module for each file format: what its header says, what it refuses, and its pixels where Pillow has none."""
