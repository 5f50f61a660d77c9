"""Translation of an image store by one model, by several translators in one pass, or by a chain of models."""
