"""Training of the networks by Ray Train: the run, its loop and its report."""
