"""Several translators over the same images in one pass, and chains of models."""
