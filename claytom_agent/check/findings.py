"""What a check found: lines with a verdict, why, and what to do about it."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

Level = Literal["L0", "L1", "L2", "L3"]
Verdict = Literal["passed", "failed", "not applicable"]
LEVELS: Final[tuple[Level, ...]] = ("L0", "L1", "L2", "L3")
NAMES: Final[dict[Level, str]] = {"L0": "reporter", "L1": "agent", "L2": "managed agent", "L3": "hosted agent"}
WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `remedy` says what to change when it failed."""

    level: Level
    what: str
    verdict: Verdict
    why: str
    remedy: str = ""


@dataclass(slots=True)
class Report:
    """The lines of a check, up to the level that was asked for."""

    subject: str
    level: Level
    findings: list[Finding] = field(default_factory=list)

    def passed(self, level: Level, what: str, why: str) -> None:
        """Note that something is as it should be."""
        self.findings.append(Finding(level, what, "passed", why))

    def failed(self, level: Level, what: str, why: str, remedy: str) -> None:
        """Note that something is not as it should be, and what to do."""
        self.findings.append(Finding(level, what, "failed", why, remedy))

    def skipped(self, level: Level, what: str, why: str) -> None:
        """Note what could not be judged."""
        self.findings.append(Finding(level, what, "not applicable", why))

    def conforms(self, level: Level) -> bool:
        """Whether nothing failed up to this level."""
        wanted = LEVELS[: LEVELS.index(level) + 1]
        return not any(line.level in wanted and line.verdict == "failed" for line in self.findings)

    @property
    def reached(self) -> Level | None:
        """The highest level at which something was tried and nothing failed; None if the lowest one failed."""
        reached: Level | None = None
        for level in LEVELS[: LEVELS.index(self.level) + 1]:
            lines = [line for line in self.findings if line.level == level]
            if any(line.verdict == "failed" for line in lines):
                break
            if any(line.verdict == "passed" for line in lines):
                reached = level
        return reached

    def table(self) -> str:
        """Return the lines as a table for a terminal, sorted by level, with the verdict on the level at its end."""
        rows = sorted(self.findings, key=lambda line: LEVELS.index(line.level))
        wide = max((len(line.what) for line in rows), default=0)
        lines = [f"{self.subject}: conformance up to {self.level}", ""]
        for line in rows:
            lines.extend(_row(line, wide))
        good = self.conforms(self.level)
        name = f"{self.level} ({NAMES[self.level]})"
        failures = sum(line.verdict == "failed" for line in rows)
        lines += ["", f"conforms to {name}" if good else f"does not conform to {name}: {failures} failed"]
        return "\n".join(lines) + "\n"


def _row(line: Finding, wide: int) -> Iterator[str]:
    head = f"{line.level}  {line.what:<{wide}}  {line.verdict:<14}  "
    text = line.why + (f". Remedy: {line.remedy}" if line.remedy else "")
    parts = textwrap.wrap(text, max(30, WIDTH - len(head))) or [""]
    yield head + parts[0]
    for part in parts[1:]:
        yield " " * len(head) + part
