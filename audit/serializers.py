"""What the API says of ledger entries."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

Row = dict[str, Any]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A replacement",
            value={
                "id": 412,
                "uid": "6f6d2f9e-0b6c-4b0a-9b9e-0f5f3f8a3b11",
                "at": "2026-11-22T16:40:12.031337Z",
                "actor": "arp",
                "action": "seat.appoint",
                "object": "seat/pricing/op-0042",
                "before": "8c4f2c40a9f83a4b1f0f5c1e6f2d7b9a3e5d8c7b6a5f4e3d2c1b0a9f8e7d6c5b",
                "after": "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
                "correlation": "arp-pricing-1",
                "bytes": '{"action":"seat.appoint","actor":"arp","after":"0a1b…","v":1}',
                "index": 411,
                "hash": "5f2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b",
            },
        )
    ]
)
class LedgerEntrySerializer(serializers.Serializer[Row]):
    """One act, with the bytes that were sealed: `SHA-256(0x00 || bytes)` is its leaf (RFC 6962)."""

    id = serializers.IntegerField()
    uid = serializers.UUIDField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(help_text="Who acted: a username, or the name of a process.")
    action = serializers.CharField(help_text="What was done, such as `seat.appoint`.")
    object = serializers.CharField(help_text="What it was done to, such as `seat/pricing/op-0042`.")
    before = serializers.CharField(allow_blank=True, help_text="SHA-256 of the object's state before the act.")
    after = serializers.CharField(allow_blank=True, help_text="SHA-256 of the object's state after the act.")
    correlation = serializers.CharField(allow_blank=True, help_text="What belongs to one act has one value.")
    bytes = serializers.CharField(help_text="The canonical bytes (RFC 8785, UTF-8) as text.")
    index = serializers.IntegerField(
        allow_null=True, help_text="Leaf index in the log; null for the second until the entry is sealed."
    )
    hash = serializers.CharField(allow_null=True, help_text="The stored leaf hash (hex); null until sealed.")

    columns = (
        "id", "uid", "at", "actor", "action", "object", "before", "after", "correlation_id", "body",
        "leaf__index", "leaf__leaf_hash",
    )  # fmt: skip

    def to_representation(self, row: Row) -> Row:
        """Return the entry of a row of `columns`."""
        leaf = row["leaf__leaf_hash"]
        return {
            "id": row["id"],
            "uid": row["uid"],
            "at": row["at"],
            "actor": row["actor"],
            "action": row["action"],
            "object": row["object"],
            "before": row["before"],
            "after": row["after"],
            "correlation": row["correlation_id"],
            "bytes": bytes(row["body"]).decode("utf-8", "replace"),
            "index": row["leaf__index"],
            "hash": None if leaf is None else bytes(leaf).hex(),
        }
