"""Merkle tree hashing as in RFC 6962, section 2.1: pure functions over bytes.

A log of n leaves is kept as its *peaks*: the roots of the perfect subtrees whose sizes are the powers of two
in n, largest first (`O(log n)` hashes). Appending a leaf and computing the root need nothing else.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte hash of a leaf: SHA-256(0x00 || data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def append(peaks: Sequence[bytes], size: int, leaves: Iterable[bytes]) -> tuple[list[bytes], int]:
    """Append leaf hashes to a log of `size` leaves with those peaks; return the new peaks and the new size.

    Raises ValueError if the number of peaks does not fit the size.
    """
    if len(peaks) != size.bit_count():
        raise ValueError(f"{len(peaks)} peaks do not make a log of {size} leaves")
    grown = list(peaks)
    for leaf in leaves:
        node, carry = leaf, size
        while carry & 1:
            node = node_hash(grown.pop(), node)
            carry >>= 1
        grown.append(node)
        size += 1
    return grown, size


def root(peaks: Sequence[bytes]) -> bytes:
    """Return the root (Merkle tree head) of the log with those peaks; SHA-256 of nothing for an empty log."""
    if not peaks:
        return EMPTY_ROOT
    node = peaks[-1]
    for peak in reversed(peaks[:-1]):
        node = node_hash(peak, node)
    return node
