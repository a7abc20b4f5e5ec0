"""The command ``cnn-export``, also as ``python -m cnn_export``: nothing is loaded before Ctrl-C has its one line."""

from cnn_infer.system.interrupt import leave_at_once


def main() -> None:
    """Entry point of the command."""
    leave_at_once("cnn-export")
    from cnn_export.cli import main as run

    run()


if __name__ == "__main__":
    main()
