"""What ``cnn-infer --doctor`` finds out: installed packages, this machine, and whether a model fits it."""
