"""Scores of each image, and what is kept of all of them."""
