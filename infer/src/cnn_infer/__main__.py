"""Entry point of the command ``cnn-infer`` and of ``python -m cnn_infer``.

The Ctrl-C handler is installed before anything else is imported.
"""

import gc
import os

from cnn_infer.system.interrupt import exit_on_interrupt


def main() -> None:
    """Run the command ``cnn-infer`` and exit with its code."""
    exit_on_interrupt("cnn-infer")
    # OpenBLAS starts one thread per processor while NumPy is imported. If the system refuses, it raises SIGINT, and the
    # command would end as if by Ctrl-C. Set only here: a program that imports the library may multiply large matrices
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # imports would trigger many collections, about 8% of the start; the command enables it again
    from cnn_infer.command.cli import main as run

    run()


if __name__ == "__main__":
    main()
