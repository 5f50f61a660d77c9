"""Benchmark of the scores of an evaluation."""
