"""Evaluation of a translated store against its targets, next to baselines without a trained model."""
