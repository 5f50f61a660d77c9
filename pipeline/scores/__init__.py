"""Scores of images: differences from their targets, and KID on image features."""
