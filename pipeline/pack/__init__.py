"""Packing of images from folders and stores into Parquet stores."""
