"""Model bundles: open, import and export them, and translate pixels with them."""
