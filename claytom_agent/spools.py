"""Where hosts keep their journals, and what the portal says of them: receipts, and what it lacks."""

import asyncio
import contextlib
import logging
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from claytom_agent.journal import LOCK, Journal, JournalBusyError
from claytom_agent.messages import IngestReceipt, IngestResend, decode
from claytom_agent.spool import Spool

log = logging.getLogger("claytom_agent.spools")

SPOOL_VERBS: Final = ("receipt", "resend")
PATIENCE_S: Final = 10.0
"""How long a host waits for its directory: another host may just be taking over what it left."""


async def open_journal(root: Path | None, host: str) -> Journal:
    """Open the journal of a host under `root`; without a root one that ends with the process.

    Raises `JournalBusyError` when another process goes on using it, `OSError` when it cannot be written.
    """
    if root is None:
        directory = Path(tempfile.mkdtemp(prefix="claytom-spool-"))
        log.warning("no spool directory: what the portal has not received is lost when this process ends")
        return Journal(directory / host, temporary=True)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Journal(root / host)
        except JournalBusyError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.2)


def adopt_orphans(spool: Spool, journal: Journal) -> int:
    """Take over what hosts that are no more have left beside `journal`; return how many messages."""
    count = 0
    for lock in sorted(journal.directory.parent.glob(f"*/{LOCK}")):
        if lock.parent == journal.directory:
            continue
        with contextlib.suppress(JournalBusyError):  # its host lives
            try:
                left = spool.adopt(Journal(lock.parent))
            except OSError as error:
                log.warning("the spool %s is left alone: %s", lock.parent, error)
            else:
                log.info("took over the %d messages of the spool %s", left, lock.parent)
                count += left
    return count


def obey(spool: Spool, verb: str, data: bytes) -> None:
    """Heed a receipt or a request to send again. What is not understood is logged and left alone."""
    try:
        if verb == "receipt":
            receipt = decode(IngestReceipt, data)
            through = [(1, receipt.through)] if receipt.through else []
            spool.receipt(receipt.division, receipt.epoch, receipt.stream, [*through, *receipt.ranges])
        else:
            wanted = decode(IngestResend, data)
            spool.resend(wanted.division, wanted.epoch, wanted.stream, wanted.ranges)
    except msgspec.DecodeError as error:
        log.warning("%s is not understood: %s", verb, error)
