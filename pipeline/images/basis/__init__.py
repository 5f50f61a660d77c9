"""Types of pixels, arrays of them, and the decision whose fault it is that an image cannot be had."""
