"""The command ``cnn-infer``, also as ``python -m cnn_infer``: nothing is loaded before Ctrl-C has its one line."""

from cnn_infer.interrupt import leave_at_once


def main() -> None:
    """Entry point of the command."""
    leave_at_once("cnn-infer")
    from cnn_infer.cli import main as run

    run()


if __name__ == "__main__":
    main()
