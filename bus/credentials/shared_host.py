"""What the one host user of a server with passwords may do (deploy/compose/nats.conf).

Without operator mode one identity stands for every unit, so this is what all lines of a host need together. A test
compares the file with this.
"""

from claytom_agent.subjects import ROLES

HOST_KV = ("KV_CT_LEASES", "KV_CT_SEATS")
"""Buckets that a host reads: the leases it holds and the manifests it runs."""

HOST_PUBLISH = [
    "org.claytom.*.metrics.*",
    *(f"org.claytom.*.{role}.*" for role in ROLES),
    "org.claytom.corporate.*.*",
    *(f"org.claytom.*.command.{word}" for word in ("hello", "goodbye", "pull-manifest", "vote")),
    "$KV.CT_LEASES.>",
    "$JS.API.INFO",
    *(f"$JS.API.STREAM.INFO.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.STREAM.MSG.GET.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.DIRECT.GET.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.DIRECT.GET.{bucket}.>" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.CREATE.{bucket}" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.CREATE.{bucket}.>" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.INFO.{bucket}.*" for bucket in HOST_KV),
    *(f"$JS.API.CONSUMER.DELETE.{bucket}.*" for bucket in HOST_KV),
    "$JS.API.CONSUMER.INFO.CT_WORK.*",
    "$JS.API.CONSUMER.MSG.NEXT.CT_WORK.*",
    "$JS.ACK.>",
    "$JS.FC.>",
    "_INBOX_host.>",
]
HOST_SUBSCRIBE = ["org.claytom.>", "_INBOX_host.>", "$SRV.>"]
