"""Augmentation: new images of each slot, translated by several models into one growing dataset."""
