"""Vendored files are what the registry published."""

import hashlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "static" / "vendor"


@pytest.mark.parametrize("vendor", [VENDOR, ROOT / "bus" / "tests" / "vendor"], ids=["static", "bus"])
def test_every_vendored_file_has_the_locked_checksum_and_nothing_else_is_there(vendor: Path) -> None:
    lock = json.loads((vendor / "vendor.lock.json").read_text(encoding="utf-8"))
    locked = {entry["file"]: entry["sha256"] for package in lock["packages"] for entry in package["files"]}
    present = {
        str(path.relative_to(vendor)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in vendor.rglob("*")
        if path.is_file() and path.name != "vendor.lock.json"
    }
    assert present == locked
    assert all(package["integrity"].startswith("sha512-") for package in lock["packages"])


def test_no_page_asset_names_another_origin() -> None:
    for path in [*VENDOR.parent.glob("*.js"), *VENDOR.parent.glob("*.css")]:
        text = path.read_text(encoding="utf-8")
        assert "http://" not in text
        assert "https://" not in text.replace('"https:"', "")
