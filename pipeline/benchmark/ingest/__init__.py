"""Images on their way in: read and decoded from each form, packed, and loaded for training."""
