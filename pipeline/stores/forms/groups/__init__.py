"""Rows of a Parquet shard, read without the rest of their row groups where these are large."""
