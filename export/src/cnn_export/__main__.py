"""``python -m cnn_export`` is the command ``cnn-export``."""

from cnn_export.cli import main

main()
