"""Keys of NATS ("nkeys"): Ed25519 with a spelling that says what a key is for and catches typing errors.

A public key begins with O (operator), A (account) or U (user), its seed with SO, SA, SU. Both are base32 of a
prefix, the 32 bytes of the key and a CRC-16.
"""

import base64
import binascii
from enum import IntEnum
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_SEED: Final = 18 << 3


class Kind(IntEnum):
    """What a key identifies; the value is the prefix byte."""

    OPERATOR = 14 << 3
    ACCOUNT = 0
    USER = 20 << 3


class KeyFormatError(ValueError):
    """A text is no key; it says why, never what the text was."""


class KeyPair:
    """A private key and what follows from it."""

    def __init__(self, kind: Kind, raw: bytes) -> None:
        self.kind = kind
        self._raw = raw
        self._private = Ed25519PrivateKey.from_private_bytes(raw)

    @classmethod
    def generate(cls, kind: Kind) -> Self:
        """Make a new key."""
        return cls(kind, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_seed(cls, seed: str) -> Self:
        """Read a seed. Raises `KeyFormatError`."""
        content = _decode(seed)
        if len(content) != 34 or content[0] & 0b11111000 != _SEED:
            raise KeyFormatError("this is not the seed of a key")
        return cls(_kind((content[0] & 0b111) << 5 | (content[1] & 0b11111000) >> 3), content[2:])

    @property
    def seed(self) -> str:
        """The secret, as text."""
        head = bytes((_SEED | self.kind >> 5, (self.kind & 0b11111) << 3))
        return _encode(head + self._raw)

    @property
    def public_key(self) -> str:
        """The name of the key, as text."""
        return _encode(bytes((self.kind,)) + self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519; 64 bytes."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"KeyPair({self.public_key})"


def check_public_key(text: str, kind: Kind) -> str:
    """Return `text` if it is a public key of that kind; raise `KeyFormatError` otherwise."""
    content = _decode(text)
    if len(content) != 33 or content[0] != kind:
        raise KeyFormatError(f"this is not the public key of an {kind.name.lower()}")
    return text


def verify(public_key: str, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the key signed the message. Raises `KeyFormatError` for what is no public key."""
    try:
        Ed25519PublicKey.from_public_bytes(_decode(public_key)[1:]).verify(signature, message)
    except InvalidSignature:
        return False
    except ValueError as error:
        raise KeyFormatError("this is not a public key") from error
    return True


def _kind(prefix: int) -> Kind:
    try:
        return Kind(prefix)
    except ValueError:
        raise KeyFormatError("keys of this kind are not used here") from None


def _encode(content: bytes) -> str:
    checked = content + binascii.crc_hqx(content, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _decode(text: str) -> bytes:
    text = text.strip()
    try:
        content = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise KeyFormatError("this is not a key: it is not base32") from error
    if len(content) < 3 or binascii.crc_hqx(content[:-2], 0).to_bytes(2, "little") != content[-2:]:
        raise KeyFormatError("this is not a key, or a letter of it is wrong: its check sum differs")
    return content[:-2]
