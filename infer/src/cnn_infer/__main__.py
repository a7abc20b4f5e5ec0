"""``python -m cnn_infer`` is the command ``cnn-infer``."""

from cnn_infer.cli import main

main()
