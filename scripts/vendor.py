"""Fetch the vendored files of every `vendor.lock.json` from the npm registry and verify them.

For developers: `python scripts/vendor.py` fetches again what the lock names; a new version is taken by editing
`version` and `integrity` there. It needs npm, which asks the registry that it is set up for; the registry's
checksum (sha512) is compared before anything is copied.
"""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDORS = (ROOT / "static" / "vendor", ROOT / "bus" / "tests" / "vendor")
SOURCE_MAP = re.compile(rb"^\s*(//|/\*)# sourceMappingURL=.*$", re.MULTILINE)


def download(package: str, version: str, integrity: str) -> tarfile.TarFile:
    """Return the package's archive. Raises ValueError when its checksum is not the locked one."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", directory, f"{package}@{version}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        archive = next(Path(directory).glob("*.tgz")).read_bytes()
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != integrity:
        raise ValueError(f"{package}@{version}: the registry sent {found}, the lock says {integrity}.")
    return tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz")


def content(archive: tarfile.TarFile, path: str) -> bytes:
    """Return a file of the archive, without a reference to a source map that we do not ship."""
    member = archive.extractfile(f"package/{path}")
    if member is None:
        raise ValueError(f"{path} is not a file of the package.")
    raw = member.read()
    return SOURCE_MAP.sub(b"", raw) if path.endswith((".js", ".css")) else raw


def fetch(vendor: Path) -> None:
    """Fetch every package of a lock, write its files beside it, and write their checksums back."""
    path = vendor / "vendor.lock.json"
    lock = json.loads(path.read_text(encoding="utf-8"))
    for package in lock["packages"]:
        archive = download(package["package"], package["version"], package["integrity"])
        for entry in package["files"]:
            raw = content(archive, entry["source"])
            target = vendor / entry["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(raw)
            entry["sha256"] = hashlib.sha256(raw).hexdigest()
        sys.stdout.write(f"{package['package']}@{package['version']}: {len(package['files'])} files\n")
    path.write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Fetch what every lock names."""
    for vendor in VENDORS:
        fetch(vendor)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
