"""Workers: what an agent does when it runs. `make_worker` finds one by the kind that a manifest names."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from claytom_agent.workers.base import Context, Item, Output, Worker, WorkerError
from claytom_agent.workers.sim import SimWorker

__all__ = ["Context", "Item", "Output", "Worker", "WorkerError", "make_worker", "register"]

_KINDS: Final[dict[str, Callable[[Mapping[str, Any]], Worker]]] = {"sim": SimWorker}


def register(kind: str, make: Callable[[Mapping[str, Any]], Worker]) -> None:
    """Add a worker kind; `make` gets the parameters of the manifest."""
    _KINDS[kind] = make


def make_worker(kind: str, params: Mapping[str, Any]) -> Worker:
    """Make the worker of a seat group; raise `WorkerError` for a kind that this host does not have."""
    make = _KINDS.get(kind)
    if make is None:
        raise WorkerError(f"this host has no worker {kind!r}, only {', '.join(sorted(_KINDS))}")
    return make(params)
