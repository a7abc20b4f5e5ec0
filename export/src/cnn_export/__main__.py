"""Entry point of the command ``cnn-export`` and of ``python -m cnn_export``.

The Ctrl-C handler is installed before anything else is imported.
"""

from cnn_infer.system.interrupt import exit_on_interrupt
from cnn_infer.system.threads import limit_library_threads


def main() -> None:
    """Run the command ``cnn-export`` and exit with its code."""
    exit_on_interrupt("cnn-export")
    limit_library_threads()
    from cnn_export.cli import main as run

    run()


if __name__ == "__main__":
    main()
