"""Runs code in forked processes, so that PyTorch, which takes seconds to import, is imported once.

    python fork_server.py SOCKET MODULE...

imports the modules, listens on a Unix socket, and prints a line when it is ready. It ends with its standard input.
A client connects for each process and sends a line of JSON, an object with the arguments of :func:`run`, together with
its three standard streams. It gets two lines: the process id, and the exit code (minus the number of the signal that
killed it). Clients do not wait for one another.
"""

import gc
import importlib
import json
import os
import select
import socket
import sys


def run(code: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run code as ``__main__`` of this process and exit; ``arguments`` is sys.argv."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    exec(code, {"__name__": "__main__"})
    sys.exit()


def main() -> None:
    """Serve until standard input ends."""
    path, *modules = sys.argv[1:]
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each child would visit, and so copy, the memory of all imported modules when it ends
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    print("ready", flush=True)
    while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
        client, _ = server.accept()
        message, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
        while not message.endswith(b"\n"):
            message += client.recv(1 << 20)
        if os.fork() == 0:  # this process only waits for the one that the client asked for
            child = os.fork()
            if child == 0:
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                for number in (*streams, client.detach(), server.detach()):
                    os.close(number)
                run(**json.loads(message))
            for number in (*streams, server.detach()):
                os.close(number)
            client.sendall(b"%d\n" % child)
            client.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os._exit(0)
        for stream in streams:
            os.close(stream)
        client.close()


if __name__ == "__main__":
    main()
