"""``python -m cnn_train`` is the command ``cnn-train``."""

from cnn_train.cli import main

main()
