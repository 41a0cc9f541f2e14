"""The matrix of a version as a table: matters by offices."""

from collections.abc import Iterable
from dataclasses import dataclass

from iam.authority.models import MatrixVersion, Matter, Office, Rule


@dataclass(frozen=True, slots=True)
class Column:
    """Offices of one rank, side by side in the matrix."""

    rank: int
    offices: list[Office]

    @property
    def scope(self) -> str:
        """The scope of its offices."""
        return self.offices[0].scope


@dataclass(frozen=True, slots=True)
class Line:
    """A matter, and its rules in each column."""

    matter: Matter
    cells: list[tuple[Column, list[Rule]]]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A version of the matrix as a table."""

    version: MatrixVersion | None
    columns: list[Column]
    lines: list[Line]


def matrix(version: MatrixVersion | None) -> Matrix:
    """Return a version as a table: matters by offices of a rank (one query)."""
    rules = list(Rule.objects.filter(version=version).select_related("matter", "office")) if version else []
    columns = [Column(rank, offices) for rank, offices in sorted(_by_rank(rule.office for rule in rules).items())]
    matters = {rule.matter_id: rule.matter for rule in rules}
    lines = [
        Line(
            matter,
            [
                (
                    column,
                    [rule for rule in rules if rule.matter_id == matter.pk and rule.office.rank == column.rank],
                )
                for column in columns
            ],
        )
        for matter in sorted(matters.values(), key=lambda one: one.position)
    ]
    return Matrix(version, columns, lines)


def _by_rank(offices: Iterable[Office]) -> dict[int, list[Office]]:
    ranks: dict[int, dict[int, Office]] = {}
    for office in offices:
        ranks.setdefault(office.rank, {})[office.pk] = office
    return {rank: sorted(found.values(), key=lambda one: one.slug) for rank, found in ranks.items()}
