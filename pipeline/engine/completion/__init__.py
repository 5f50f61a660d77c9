"""Completion of an output: its error budget, its totals, and the mark that says it is complete."""
