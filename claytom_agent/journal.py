"""A host's journal on its disk: records appended to segment files, deleted a segment at a time.

A record is a magic word, its length, a checksum and a payload. What was written survives the end of the process;
`sync` makes it survive a power cut. A record that is cut off at the end was never promised to anyone and is cut
away; a damaged one in the middle is skipped and counted, and reading goes on at the next magic word.
"""

import errno
import fcntl
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Final

log = logging.getLogger("claytom_agent.journal")

SEGMENT_BYTES: Final = 8 * 1024 * 1024
MAX_RECORD: Final = 64 * 1024 * 1024
_MAGIC: Final = b"\xc7\x0aCTJ1\r\n"  # holds a line break, so a copy that changes them is found at once
_HEAD: Final = Struct("<8sII")  # magic, length, CRC-32 of the payload
MANY_SEGMENTS: Final = 8
FEW_RECORDS: Final = 16
SUFFIX: Final = ".journal"
LOCK: Final = "lock"


class JournalBusyError(RuntimeError):
    """Another process uses the directory."""


@dataclass(slots=True, eq=False)
class _Segment:
    path: Path
    file: int
    size: int = 0
    live: int = 0
    """Records that are still needed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the payload of a record is."""

    segment: _Segment = field(repr=False)
    offset: int
    length: int


class Journal:
    """The records of one directory, which belongs to this process until `close`.

    Raises `JournalBusyError` if another process has it, `OSError` if it cannot be written.
    """

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES, temporary: bool = False) -> None:
        self.directory = directory
        self._temporary = temporary
        self.damaged = 0
        """Records that were found damaged when the directory was opened."""
        self._segment_bytes = segment_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise JournalBusyError(f"{directory} is used by another process; give each host its own id") from error
        self._segments: list[_Segment] = []
        self._unsynced: list[_Segment] = []
        self._number = 0

    # -- reading ------------------------------------------------------------------------------------------------

    def replay(self) -> Iterator[tuple[Place, bytes]]:
        """Yield the records that are there, oldest first; each counts as needed until `release`.

        To be called once, before the first `append`.
        """
        for path in sorted(self.directory.glob(f"*{SUFFIX}")):
            self._number = max(self._number, int(path.stem))
            segment = _Segment(path, os.open(path, os.O_RDWR))
            self._segments.append(segment)
            content = path.read_bytes()
            for offset, payload in self._records(content, segment):
                segment.live += 1
                yield Place(segment, offset, len(payload)), payload

    def tidy(self) -> None:
        """Delete the segments that hold nothing that is needed, but for the newest; after `replay`."""
        for segment in [segment for segment in self._segments[:-1] if not segment.live]:
            self._drop(segment)

    def _records(self, content: bytes, segment: _Segment) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at < len(content):
            payload = _payload(content, at)
            if payload is not None:
                yield at + _HEAD.size, payload
                at += _HEAD.size + len(payload)
                segment.size = at
                continue
            following = content.find(_MAGIC, at + 1)
            while following >= 0 and _payload(content, following) is None:
                following = content.find(_MAGIC, following + 1)
            if following < 0:
                log.warning("%s: the last %d bytes were not written whole", segment.path, len(content) - at)
                os.ftruncate(segment.file, at)
                return
            self.damaged += 1
            log.error("%s: damaged between bytes %d and %d", segment.path, at, following)
            at = following

    def read(self, place: Place) -> bytes:
        """Return the payload of a record. Raises `OSError` if the disk does not give it back as it was written."""
        start = place.offset - _HEAD.size
        content = os.pread(place.segment.file, _HEAD.size + place.length, start)
        payload = _payload(content, 0)
        if payload is None:
            raise OSError(f"{place.segment.path}: the record at byte {start} is damaged")
        return payload

    # -- writing ------------------------------------------------------------------------------------------------

    def append(self, payload: bytes, *, needed: bool = True) -> Place:
        """Write a record; on `OSError` (the disk is full) nothing of it stays. Not on the disk before `sync`.

        A record that is not `needed` keeps no segment alive.
        """
        segment = self._current(len(payload))
        record = _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload
        start = segment.size
        try:
            written = os.pwrite(segment.file, record, start)
            while written < len(record):
                written += os.pwrite(segment.file, record[written:], start + written)
        except OSError:
            os.ftruncate(segment.file, start)
            raise
        segment.size += len(record)
        segment.live += needed
        if segment not in self._unsynced:
            self._unsynced.append(segment)
        return Place(segment, start + _HEAD.size, len(payload))

    def sync(self) -> None:
        """Let what was appended so far be on the disk; may be called in another thread than `append`."""
        segments, self._unsynced = self._unsynced, []
        for segment in segments:
            try:
                os.fdatasync(segment.file)
            except OSError as error:
                # Dropped meanwhile, because nothing in it was needed any longer.
                if error.errno != errno.EBADF or segment in self._segments:
                    raise

    def release(self, place: Place) -> None:
        """Say that a record is needed no longer; a segment without needed records is deleted."""
        segment = place.segment
        segment.live -= 1
        if not segment.live and (segment is not self._segments[-1] or segment.size > self._segment_bytes):
            self._drop(segment)

    @property
    def is_sparse(self) -> bool:
        """Whether the oldest of many segments is kept by a few records: those may be written anew."""
        return len(self._segments) > MANY_SEGMENTS and self._segments[0].live <= FEW_RECORDS

    def is_oldest(self, place: Place) -> bool:
        """Whether a record is in the oldest segment."""
        return place.segment is self._segments[0]

    def _current(self, length: int) -> _Segment:
        if length > MAX_RECORD:
            raise ValueError(f"a record of {length} bytes is too long")
        if not self._segments or self._segments[-1].size + length > self._segment_bytes:
            if self._segments and not self._segments[-1].live:
                self._drop(self._segments[-1])
            self._number += 1
            path = self.directory / f"{self._number:012d}{SUFFIX}"
            self._segments.append(_Segment(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)))
            _sync_directory(self.directory)  # a file whose name is lost in a power cut is lost
        return self._segments[-1]

    def _drop(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        self._unsynced = [other for other in self._unsynced if other is not segment]
        segment.path.unlink(missing_ok=True)
        os.close(segment.file)

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def bytes_on_disk(self) -> int:
        """The size of all segments."""
        return sum(segment.size for segment in self._segments)

    def close(self, *, remove: bool = False) -> None:
        """Give the directory back; with `remove`, with everything in it."""
        for segment in self._segments:
            os.close(segment.file)
            if remove:
                segment.path.unlink(missing_ok=True)
        self._segments.clear()
        self._unsynced.clear()
        if remove:
            (self.directory / LOCK).unlink(missing_ok=True)
            self.directory.rmdir()
        os.close(self._lock)
        if self._temporary:
            shutil.rmtree(self.directory.parent, ignore_errors=True)


def _payload(content: bytes, at: int) -> bytes | None:
    """Return the payload of the record that begins at `at`; None if there is none, or a damaged one."""
    if len(content) - at < _HEAD.size:
        return None
    magic, length, checksum = _HEAD.unpack_from(content, at)
    if magic != _MAGIC or length > MAX_RECORD or len(content) - at - _HEAD.size < length:
        return None
    payload = content[at + _HEAD.size : at + _HEAD.size + length]
    return payload if zlib.crc32(payload) == checksum else None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
