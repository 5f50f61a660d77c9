"""Throughput against this machine's own limits, and against the loop that people write without this project."""
