"""Factories of the group's structure for tests."""

from collections.abc import Collection
from copy import deepcopy
from pathlib import Path

from django.db import transaction

from holding import blueprints, files, services
from holding.files import Data
from holding.models import Blueprint, BlueprintVersion, Seat

FILE = Path(files.__file__).parent / "data" / "holding.yaml"
SMALL = 35  # agents per subsidiary: the management of the real holding, one operator per division

_data: Data = {}


def make_data(*, agents: int = SMALL) -> Data:
    """Return a copy of the real holding file's content, with `agents` seats per subsidiary."""
    if not _data:
        _data.update(files.read(FILE))
    if agents == _data["staffing"]["floor"]:
        return deepcopy(_data)
    return files.scale(_data, agents)


def make_holding(*, agents: int = SMALL, subsidiaries: Collection[str] = ()) -> Data:
    """Load the real holding, with `agents` seats per subsidiary; only some, if named. Return what was loaded."""
    data = make_data(agents=agents)
    if subsidiaries:
        for sector in data["sectors"]:
            sector["subsidiaries"] = [unit for unit in sector["subsidiaries"] if unit["slug"] in subsidiaries]
    services.load_holding(data=data, actor="test", scaled=agents != _data["staffing"]["floor"])
    return data


def make_seat(unit: str = "pricing", code: str = "op-0031") -> Seat:
    """Return a seat of a loaded holding."""
    return Seat.objects.for_listing().get(unit__slug=unit, code=code)


@transaction.atomic
def make_version(slug: str = "operator", params: dict[str, float] | None = None) -> BlueprintVersion:
    """Return a new approved version of a blueprint, with these parameters of its worker."""
    blueprint = Blueprint.objects.select_related("role", "body").get(slug=slug)
    spec = {"worker": {"kind": "sim", "params": params or {}}, "for": slug}
    version = blueprints.draft(blueprint=blueprint, spec=spec, author="ana", note="a test of it")
    blueprints.approve(version, by="bob")
    return version
