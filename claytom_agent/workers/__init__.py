"""Workers: what an agent does when it runs. `make_worker` finds one by the kind that a manifest names."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from claytom_agent.workers.base import Context, Item, Output, Worker, WorkerError
from claytom_agent.workers.sim import SimWorker

__all__ = ["Context", "Item", "Output", "Worker", "WorkerError", "faults", "kinds", "make_worker", "register"]

Bounds = Mapping[str, tuple[float, float]]
"""The parameters of a worker kind, each with its least and its largest value."""

_KINDS: Final[dict[str, Callable[[Mapping[str, Any]], Worker]]] = {"sim": SimWorker}
_BOUNDS: Final[dict[str, Bounds]] = {"sim": SimWorker.bounds}


def register(kind: str, make: Callable[[Mapping[str, Any]], Worker], bounds: Bounds | None = None) -> None:
    """Add a worker kind; `make` gets the parameters of the manifest. Without `bounds` it takes any parameters."""
    _KINDS[kind] = make
    if bounds is not None:
        _BOUNDS[kind] = bounds


def kinds() -> list[str]:
    """Return the kinds that this installation has."""
    return sorted(_KINDS)


def faults(kind: str, params: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with a worker of that kind and these parameters, a sentence each; [] when nothing is.

    Asked before a specification is put in force: a host could only refuse it, or fail every agent of it.
    """
    if kind not in _KINDS:
        return [f"worker.kind: there is no worker {kind!r:.60}, only {', '.join(kinds())}"]
    bounds = _BOUNDS.get(kind)
    if bounds is None:
        return []
    found = []
    for name, value in params.items():
        place = f"worker.params.{name:.60}"
        if name not in bounds:
            known = ", ".join(sorted(bounds)) or "none"
            found.append(f"{place}: worker {kind!r} has no such parameter, only {known}")
            continue
        least, most = bounds[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            found.append(f"{place}: {value!r:.60} is no number from {least:g} to {most:g}")
    return found


def make_worker(kind: str, params: Mapping[str, Any]) -> Worker:
    """Make the worker of a seat group; raise `WorkerError` for a kind that this host does not have."""
    make = _KINDS.get(kind)
    if make is None:
        raise WorkerError(f"this host has no worker {kind!r}, only {', '.join(sorted(_KINDS))}")
    return make(params)
