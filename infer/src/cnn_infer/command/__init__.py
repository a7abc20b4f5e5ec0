"""What only the command ``cnn-infer`` needs."""
