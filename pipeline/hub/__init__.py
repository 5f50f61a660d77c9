"""Push of bundles and datasets to the Hugging Face hub."""
