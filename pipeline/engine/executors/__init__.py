"""Executors of the engine: a plain loop, and Ray Data."""
