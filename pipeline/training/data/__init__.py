"""Training data: the order of samples, and how they are read, decoded and brought to the device."""
