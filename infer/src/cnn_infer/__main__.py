"""The command ``cnn-infer``, also as ``python -m cnn_infer``: nothing is loaded before Ctrl-C has its one line."""

import gc

from cnn_infer.system.interrupt import leave_at_once


def main() -> None:
    """Entry point of the command."""
    leave_at_once("cnn-infer")
    gc.disable()  # until all is loaded: it would look through all of it again and again, a twelfth of the start
    from cnn_infer.command.cli import main as run

    run()


if __name__ == "__main__":
    main()
