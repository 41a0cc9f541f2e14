"""The manifest of a division: which seats exist, in which generation, and what they shall do.

The portal writes one per division to the bucket `CT_SEATS`; it is the desired state, hosts make it real.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from claytom_agent.messages import Desired
from claytom_agent.subjects import CORPORATE, ROLE_CODES, SubjectError, parse_division_key

MAX_SEATS: Final = 50_000

Generation = Annotated[int, Meta(ge=1, le=999_999)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class BlueprintRef(msgspec.Struct, frozen=True):
    """The recipe of a seat group: name, version and the digest of its content."""

    name: str = ""
    version: int = 1
    digest: str = ""

    @property
    def label(self) -> str:
        """Name and version, as in `operator/3`."""
        return f"{self.name}/{self.version}"


class WorkerSpec(msgspec.Struct, frozen=True):
    """Which worker runs the agents of a seat group, with its parameters."""

    kind: str = "sim"
    params: dict[str, Any] = {}


class SeatGroup(msgspec.Struct, frozen=True):
    """Seats of one role (ranges of ordinals, both ends included) or of one body (names and duties)."""

    role: str
    code: str = ""
    ordinals: list[tuple[int, int]] = []
    names: list[str] = []
    duties: dict[str, str] = {}
    blueprint: BlueprintRef = BlueprintRef()
    worker: WorkerSpec = WorkerSpec()
    desired: Desired = "run"
    """Of every seat of the group that is not among the manifest's exceptions."""


class Settings(msgspec.Struct, frozen=True):
    """Intervals in seconds. Samples are named by the whole second of their round, so one a second at most.

    `version` names the command that set them; 0 is what the portal begins with.
    """

    kpi_interval_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    presence_interval_s: Seconds = 5.0
    presence_full_s: Seconds = 60.0
    version: Annotated[int, Meta(ge=0)] = 0


class Manifest(msgspec.Struct, frozen=True):
    """The desired state of one division; `generations` and `desired` hold the exceptions, by seat."""

    v: Literal[1]
    subsidiary: str
    division: str
    generation: Annotated[int, Meta(ge=0)]
    seats: list[SeatGroup]
    generations: dict[str, Generation] = {}
    desired: dict[str, Desired] = {}
    external: list[int] = []
    """Ordinals of the division's seats whose agents have a connection of their own: not for a host to run."""
    superiors: dict[str, int] = {}
    """Of seats that were opened later: the ordinal of the coordinator of each. The rule does not say it of them."""
    settings: Settings = Settings()


class SeatSpec(NamedTuple):
    """One seat as the manifest wants it; `key` is the ordinal, or the name of a corporate seat."""

    key: int | str
    group: SeatGroup
    generation: int
    desired: Desired
    duty: str


class ManifestError(ValueError):
    """A manifest that cannot be run; the text says why, `generation` which it is (0: that cannot be read)."""

    def __init__(self, text: str, generation: int = 0) -> None:
        super().__init__(text)
        self.generation = generation


class _Numbered(msgspec.Struct, frozen=True):
    generation: Annotated[int, Meta(ge=0)] = 0


_decoder = msgspec.json.Decoder(Manifest)
_number = msgspec.json.Decoder(_Numbered)


def _generation(data: bytes) -> int:
    try:
        return _number.decode(data).generation
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0


def decode_manifest(key: str, data: bytes) -> Manifest:
    """Decode and check the manifest of division `key`; raise `ManifestError`."""
    try:
        manifest = _decoder.decode(data)
        parse_division_key(key)
    except (msgspec.DecodeError, UnicodeDecodeError, SubjectError) as error:
        raise ManifestError(f"manifest of {key}: {error}", _generation(data)) from error
    if (fault := _fault(key, manifest)) is not None:
        raise ManifestError(f"manifest of {key}{fault}", manifest.generation)
    return manifest


def _fault(key: str, manifest: Manifest) -> str | None:
    """Say what the schema cannot: why this manifest is none that can be run."""
    if f"{manifest.subsidiary}.{manifest.division}" != key:
        return f" says it is of {manifest.subsidiary}.{manifest.division}"
    total = 0
    for group in manifest.seats:
        if manifest.subsidiary == CORPORATE:
            if group.role != manifest.division:
                return f": seats of body {group.role!r}"
            total += len(group.names)
            continue
        if ROLE_CODES.get(group.role) != group.code:
            return f": role {group.role!r} with code {group.code!r}"
        for first, last in group.ordinals:
            if not 1 <= first <= last:
                return f": seats {first}..{last} are no range"
            total += last - first + 1
    if total > MAX_SEATS:
        return f": {total} seats, at most {MAX_SEATS} fit in a division"
    return None


def expand(manifest: Manifest) -> Iterator[SeatSpec]:
    """Yield every seat of the manifest with its generation and desired state."""
    generations, desired = manifest.generations, manifest.desired
    for group in manifest.seats:
        for name in group.names:
            wanted = desired.get(name, group.desired)
            yield SeatSpec(name, group, generations.get(name, 1), wanted, group.duties.get(name, ""))
        for first, last in group.ordinals:
            for ordinal in range(first, last + 1):
                text = str(ordinal)
                yield SeatSpec(ordinal, group, generations.get(text, 1), desired.get(text, group.desired), "")


def covers(manifest: Manifest, ordinal: int) -> bool:
    """Say whether the seat with this ordinal belongs to the division."""
    return any(first <= ordinal <= last for group in manifest.seats for first, last in group.ordinals)
