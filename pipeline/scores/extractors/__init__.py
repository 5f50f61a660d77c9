"""Extractors of image features: the field's Inception, EfficientNet-Lite0, or a program; how images are resized."""
