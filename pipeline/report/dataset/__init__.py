"""Descriptions of an output that other tools read: the card of a dataset, Croissant metadata, results of metrics."""
