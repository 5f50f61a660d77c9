"""Rows of a store as Arrow tables, and ranges of rows."""
