"""The contrast of the colours, read from the style sheet: WCAG 2.2, and the figures of the design."""

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[2] / "static" / "portal.css").read_text(encoding="utf-8")
TOKENS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS)
}
TEXT = [(ink, ground) for ink in ("text", "muted", "accent") for ground in ("bg", "surface")]
STATUS = [(kind, f"{kind}-soft") for kind in ("ok", "warn", "crit", "info")]
STATUS += [(kind, ground) for kind in ("ok", "warn", "crit", "info") for ground in ("surface", "bg")]
HEAT = [(f"on-heat-{step}", f"heat-{step}") for step in range(1, 8)]
OTHER = [("muted", "raised"), ("accent", "accent-soft"), ("on-accent", "accent"), ("text", "raised")]


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT + STATUS + HEAT + OTHER)
def test_text_is_readable(ink: str, ground: str, theme: int) -> None:
    assert contrast(TOKENS[ink][theme], TOKENS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["surface", "bg"])
def test_the_edges_of_controls_are_visible(ground: str, theme: int) -> None:
    assert contrast(TOKENS["control"][theme], TOKENS[ground][theme]) >= 3


def test_every_colour_is_a_token() -> None:
    rules = CSS.split("@layer base")[1].split("@layer modes")[0]
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", rules)
