"""Translation of images by models: what all jobs that translate are made of."""
