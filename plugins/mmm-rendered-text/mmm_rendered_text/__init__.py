"""Text as pixels, for mmm: drawn on a strip, read as patches of an image."""
