"""A small disk that can really be full, with the KPI samples on it and nothing else."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from deployment.embedded.postgres import find_binaries
from tests.servers import SERVERS

SIZE = "16m"
LEFT = 400_000  # bytes that a full disk still has: less than a batch and its tables need
# An ordinary user may mount in a user namespace of their own, and only who lives in it sees the disk: PostgreSQL.
INSIDE = """#!/bin/sh
exec unshare --user --map-current-user --keep-caps --mount sh -c '
    mount -t tmpfs -o size={size},mode=0777 tmpfs "{place}" && exec setpriv --pdeathsig KILL "{postgres}" "$@"
' postgres "$@"
"""
TRIAL = [
    "unshare",
    "--user",
    "--map-current-user",
    "--keep-caps",
    "--mount",
    "mount",
    "-t",
    "tmpfs",
    "tmpfs",
    "/mnt",
]


class SmallDisk:
    """The disk as this process reaches it."""

    def __init__(self, root: Path) -> None:
        self._ballast = root / "ballast"
        self._root = root

    def fill(self) -> None:
        """Leave next to nothing."""
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self._root).free - LEFT)

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(superuser_dsn: str) -> Iterator[SmallDisk]:
    """Mount it and move the partitions of the samples there; afterwards all is as before, without samples."""
    place = Path(tempfile.mkdtemp(prefix="claytom-disk-"))
    try:
        with _mounted(place) if os.geteuid() == 0 else _mounted_for_postgres(place) as root:
            samples = root / "samples"
            samples.mkdir()
            with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
                cluster = Path(superuser.execute("show data_directory").fetchone()[0])  # type: ignore[index]
                shutil.chown(samples, user=cluster.owner(), group=cluster.group())
                superuser.execute(sql.SQL("create tablespace small location {}").format(str(place / "samples")))
                _move_samples(superuser, "small")
            disk = SmallDisk(root)
            try:
                yield disk
            finally:
                disk.free()
                connection.close()
                with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
                    superuser.execute("truncate performance_kpisample")
                    _move_samples(superuser, "pg_default")
                    superuser.execute("drop tablespace small")
    finally:
        place.rmdir()


@contextmanager
def _mounted(place: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0777", "tmpfs", str(place)]
    if refused := _refusal(mount):
        pytest.skip(f"This machine lets root mount no disk ({refused}): give the container CAP_SYS_ADMIN.")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@contextmanager
def _mounted_for_postgres(place: Path) -> Iterator[Path]:
    """Start PostgreSQL anew where it alone sees the disk; yield the way to it through the server's own root."""
    if refused := _refusal(TRIAL):
        pytest.skip(
            f"This machine lets an ordinary user mount no disk ({refused}): run as root, or allow user namespaces "
            "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0)."
        )
    real = find_binaries() / "postgres"
    with tempfile.TemporaryDirectory(prefix="claytom-disk-") as programs, pytest.MonkeyPatch.context() as patch:
        inside = Path(programs) / "postgres"
        inside.write_text(INSIDE.format(size=SIZE, place=place, postgres=real))
        inside.chmod(0o700)
        patch.setattr("deployment.embedded.postgres.find_binaries", lambda: Path(programs))
        server = _restarted()
        yield Path(f"/proc/{server.process.pid}/root") / place.relative_to("/")
    _restarted()


def _restarted() -> Any:
    server = SERVERS.stack.servers["postgresql"]
    connection.close()
    server.stop()
    server.prepare()
    server.start()
    server.wait_ready()
    connection.close_pool()  # type: ignore[attr-defined]  # the dead connections of this process
    return server


def _refusal(command: list[str]) -> str:
    """Run it and return why it did not work, or an empty string."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def _move_samples(superuser: psycopg.Connection, tablespace: str) -> None:
    """Put the partitions, and those to come, into a tablespace."""
    tables = superuser.execute(
        "select relname from pg_class where relname ~ '^performance_kpisample' and relkind in ('r', 'p')"
    )
    for (table,) in tables.fetchall():
        move = sql.SQL("alter table {} set tablespace {}")
        superuser.execute(move.format(sql.Identifier(table), sql.Identifier(tablespace)))
