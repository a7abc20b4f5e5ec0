"""Runs commands in forked processes, so that PyTorch, which takes seconds to import, is imported once.

    python fork_server.py MODULE...

imports the modules and then reads lines of JSON, each an object with the arguments of :func:`run`. It prints two lines
for each: the process id of the child, and its exit code (minus the number of the signal that killed it).
"""

import importlib
import json
import os
import sys


def run(entry: str, arguments: list[str], folder: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    """Become the command: call its entry point ``module:function`` and exit."""
    os.chdir(folder)
    for path, number, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (stdout, 1, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (stderr, 2, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(path, flags), number)
    os.environ.clear()
    os.environ.update(environment)
    module, _, function = entry.partition(":")
    sys.argv = [module.partition(".")[0].replace("_", "-"), *arguments]
    sys.exit(getattr(importlib.import_module(module), function)())


def main() -> None:
    """Serve until standard input ends."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
