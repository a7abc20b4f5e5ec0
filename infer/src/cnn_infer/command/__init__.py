"""The command ``cnn-infer``."""
