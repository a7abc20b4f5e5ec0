"""The command ``cnn-train``, also as ``python -m cnn_train``: nothing is loaded before Ctrl-C has its one line."""

from cnn_infer.system.interrupt import leave_at_once


def main() -> None:
    """Entry point of the command."""
    leave_at_once("cnn-train")
    from cnn_train.cli import main as run

    run()


if __name__ == "__main__":
    main()
