"""The command ``cnn-train``, also as ``python -m cnn_train``. Ctrl-C is handled before other modules are imported."""

from cnn_infer.system.interrupt import exit_on_interrupt
from cnn_infer.system.threads import limit_library_threads


def main() -> None:
    """Entry point of the command."""
    exit_on_interrupt("cnn-train")
    limit_library_threads()
    from cnn_train.cli import main as run

    run()


if __name__ == "__main__":
    main()
