"""Entry point of the command ``cnn-infer`` and of ``python -m cnn_infer``.

The Ctrl-C handler is installed before anything else is imported.
"""

import gc

from cnn_infer.system.interrupt import exit_on_interrupt


def main() -> None:
    """Run the command ``cnn-infer`` and exit with its code."""
    exit_on_interrupt("cnn-infer")
    gc.disable()  # imports would trigger many collections, about 8% of the start; the command enables it again
    from cnn_infer.command.cli import main as run

    run()


if __name__ == "__main__":
    main()
