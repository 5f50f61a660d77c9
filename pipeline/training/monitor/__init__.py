"""Observation of a training run: metrics, dashboards, progress, and guards that stop it early."""
