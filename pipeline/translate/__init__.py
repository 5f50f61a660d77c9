"""Translation of an image store by one model."""
