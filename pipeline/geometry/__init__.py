"""Boxes, points and masks that follow their picture where it is turned or resized."""
