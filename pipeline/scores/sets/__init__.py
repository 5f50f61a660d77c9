"""Distances of two sets of images by their features: sums that no order changes, FID, KID, precision and recall."""
