"""The int8 model: quantization, the search for the best recipe, and the verdict."""
