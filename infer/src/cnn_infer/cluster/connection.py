"""The connection to a Ray cluster, or one that is started on this machine for a single run."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from cnn_infer.errors import ClusterError, InputError
from cnn_infer.system import machine

OBJECT_STORE = 100 << 20
"""Bytes of shared memory of a cluster that is started here: the model and short notes on parts pass through it."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame; its fourth byte is the type
_ANSWER_SECONDS = 10

# ray.init does not tell this cause, and sends no token on its own: a cluster without tokens would start no actor
_TOKEN_HINT = "if it has token authentication, set RAY_AUTH_MODE=token and put its token into ~/.ray/auth_token"

LOCAL = "local"
"""The value of ``RAY_ADDRESS`` for a cluster that is started here, as if it were not set."""


def check_installed() -> None:
    """Check that Ray Data is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        raise InputError("--ray needs the package ray with Ray Data: pip install 'cnn-infer[ray]'")


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster inside the block; use the connection of this process if there is one.

    Ray's own messages are silenced, and it sends no usage statistics.

    Args:
        address: ``host:port`` or ``auto``; None for the cluster that the environment variable
            ``RAY_ADDRESS`` names, or without it for one that is started here and ends with the block.

    Raises:
        ClusterError: no cluster answers, or it runs other versions of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the announced default; else a warning
    import ray

    if ray.is_initialized():
        with _ray_data_silent():
            yield
        return
    target = address or os.environ.get("RAY_ADDRESS")
    if target == LOCAL:
        target = None
    if target and target != "auto":
        _check_answers(target)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if not target:
        options |= {"num_cpus": machine.usable_cpus(), "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    # Ray prints to standard output when a node or an actor is lost
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            with _standard_error_discarded():
                ray.init(target or LOCAL, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            where = f"connect to the Ray cluster {target}" if target else "start a Ray cluster on this machine"
            hint = f": {_TOKEN_HINT}" if target and os.environ.get("RAY_AUTH_MODE") != "token" else ""
            raise ClusterError(f"cannot {where}: {' '.join(str(error).split())[:300]}{hint}") from error
        try:
            with _ray_data_silent():
                yield
        finally:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Check that a gRPC server listens at ``host:port``: Ray itself would try for a minute, or without an end.

    Such a server answers the preface of HTTP/2 with a SETTINGS frame (RFC 9113, sections 3.4 and 6.5). With TLS only
    the port is checked.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
                connection.sendall(_PREFACE + _SETTINGS)
                if connection.recv(len(_SETTINGS))[3:4] != _SETTINGS[3:4]:
                    raise ClusterError(
                        f"cannot connect to the Ray cluster {address}: another server answers: check address and port"
                    )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClusterError(f"cannot connect to the Ray cluster {address}: {reason}: check address and port") from error


@contextmanager
def _standard_error_discarded() -> Iterator[None]:
    """Inside the block, discard what is written to standard error, also by libraries in C++."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextmanager
def _ray_data_silent() -> Iterator[None]:
    """Keep the messages of Ray Data off standard error inside the block; they are in the log files of its session."""
    import ray.data

    context = ray.data.DataContext.get_current()
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data", "ray.data._internal.progress")]
    printing = ("StreamHandler", "PlainRayHandler")
    handlers = [found for logger in loggers for found in logger.handlers if type(found).__name__ in printing]
    before = context.enable_progress_bars, [handler.level for handler in handlers]
    context.enable_progress_bars = False
    for logger in loggers:
        logger.addFilter(_nothing)
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        for logger in loggers:
            logger.removeFilter(_nothing)
        for handler, level in zip(handlers, before[1], strict=True):
            handler.setLevel(level)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def places_for(cpus: int, gpus: int = 0) -> int:
    """Return how many actors with these numbers of CPUs and GPUs the nodes of the cluster have room for.

    Raises:
        ClusterError: no node has so many.
    """
    import ray

    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in found if node["Alive"]]
    if gpus and not any(node.get("GPU", 0) >= gpus for node in nodes):
        raise ClusterError("no node of the cluster has a GPU: pass --device cpu, or add a node with one")
    rooms = [[int(node.get("CPU", 0)) // cpus, *([int(node.get("GPU", 0)) // gpus] if gpus else [])] for node in nodes]
    places = sum(map(min, rooms))
    if not places:
        most = max((int(node.get("CPU", 0)) for node in nodes if node.get("GPU", 0) >= gpus), default=0)
        beside = " beside a GPU" if gpus else ""
        raise ClusterError(
            f"no node of the cluster has {cpus} CPUs{beside} (the largest has {most}): pass fewer --threads"
        )
    return places
