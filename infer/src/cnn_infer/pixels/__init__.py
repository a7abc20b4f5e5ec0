"""Convert pictures (files, bytes, PIL images, arrays) to the pixels that a model takes."""
