"""Arrow streams and files, read a batch at a time."""
