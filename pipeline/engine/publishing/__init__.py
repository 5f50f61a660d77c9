"""Publishing of units: read their rows, run their stages, commit their results."""
