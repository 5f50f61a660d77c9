"""Checkpoints of a training run: what they hold, and the checkpoint writer."""
