"""Validation of a training run on held-out images, in the background or between steps."""
