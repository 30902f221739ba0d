"""Ray, started here for one command or found where it runs already."""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from textreid.errors import ClusterLostError, ConfigError

_CONNECT_TIMEOUT_S = 5.0
_HEARTBEAT_S = 2.0  # between two looks at whether the cluster is there
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # else its news would come on standard output
    "RAY_worker_niceness": "0",  # workers are as nice as this process, and not nicer by 15
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else it would start anew, unasked, when it was lost
}


def connect(address: str | None, workers: int | None) -> bool:
    """Start Ray on this machine with ``workers`` CPUs (all of them when None), or join the cluster at ``address``.

    Nothing of it shows: no dashboard, no log lines, no report of usage to Ray's makers. A Ray that this process is
    connected to already is used as it is.

    Returns:
        Whether it is ours to shut down.

    Raises:
        ConfigError: ray is not installed, or there is no cluster at ``address``.
    """
    for name, value in _RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f'--engine ray: {error}; install the extra: pip install "textreid[cluster]"') from error
    if address:
        _look_for(address)
    if ray.is_initialized():
        return False
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _silence():
            if address:
                ray.init(address, **quiet)
            else:
                ray.init(num_cpus=workers, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        place = f"--ray-address {address}" if address else "Ray cannot be started here"
        raise ConfigError(f"{place}: {str(error).strip().splitlines()[0]}") from error
    return True


def addresses() -> list[tuple[str, int]]:
    """Return host and port of the cluster's head and of its part on this machine; without either, nothing goes on."""
    import ray

    context = ray.get_runtime_context()
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    host, _, port = context.gcs_address.rpartition(":")
    return [(host, int(port)), (here["NodeManagerAddress"], here["NodeManagerPort"])]


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the C++ part of Ray, which tells of its own log level, from standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _look_for(address: str) -> None:
    """Fail at once, and not after a minute, where nobody listens."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal() or "/" in host:
        raise ConfigError(
            f'--ray-address {address}: expected HOST:PORT of the head node, or "auto"; '
            "this command must run on a machine of the cluster"
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray-address {address}: no Ray cluster answers there: {error}") from error


async def watch_cluster(addresses: Sequence[tuple[str, int]]) -> None:
    """Find out when the cluster has gone: Ray itself would wait for it, and then end this process without a word."""
    while True:
        for host, port in addresses:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT_TIMEOUT_S)
            except OSError as error:
                raise _lost(f"{host}:{port} does not answer any more") from error
            writer.close()
        await asyncio.sleep(_HEARTBEAT_S)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what Ray raises into one line."""
    import ray.exceptions

    try:
        yield
    except (ray.exceptions.RayError, ConnectionError, TimeoutError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise _lost(lines[-1] if "creation task" in lines[0] else lines[0]) from error


def _lost(reason: str) -> ClusterLostError:
    return ClusterLostError(f"the Ray cluster failed: {reason}; what was written stays: run the same command to go on")
