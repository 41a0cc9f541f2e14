"""The AsyncAPI 3.0 document of the protocol, as an agent sees it: what it sends, receives and answers."""

import re
from functools import cache
from typing import Any, Final

from bus.contract.examples import BODIES
from bus.contract.schemas import components
from bus.streams import stream_of
from claytom_agent.messages import MESSAGE_TYPES, PROTOCOL, MessageType
from claytom_agent.subjects import ROLES, ROOT

VERSION: Final = "3.0.0"
TOKENS: Final = {
    "sub": "A subsidiary's slug, or `corporate` for the parent company's seats.",
    "role": "The role of an agent.",
    "agent": "The last token of an agent's address: role code, seat, generation (`op-0042-g3`).",
    "body": "A body of the parent company.",
    "seat": "A seat of that body.",
    "topic": "What the broadcast is about.",
    "motion": "The id of the motion.",
}
EXAMPLES: Final = {"sub": "pricing", "role": "operator", "agent": "op-0042-g3", "body": "founders", "seat": "chair"}
TRAITS: Final = {
    "ce-specversion": "1.0",
    "ce-id": "The message's identity; with a stream also its message id.",
    "ce-type": "What the message is.",
    "ce-source": "Who says it: an agent's subject, `host/<id>` or `portal/<service>`.",
    "ce-time": "When it was said (RFC 3339).",
    "Content-Type": "application/json",
    "Nats-Msg-Id": "The same as `ce-id`, on messages for a stream.",
    "Claytom-Epoch": "The epoch that the welcome or the lease gave; a lower one is stale and changes nothing.",
    "Claytom-Seq": "`<lease key>.<epoch>.<n>`: gap-free numbers of one sender's messages for one stream.",
    "Claytom-Generation": "The generation of a corporate seat's agent.",
    "Claytom-Deadline": "Until when an answer is of use (RFC 3339).",
    "traceparent": "W3C trace context.",
}


def channel_name(subject: str) -> str:
    """Return the key of a channel: `{sub}.metrics.kpi` becomes `sub-metrics-kpi`."""
    return subject.replace("{", "").replace("}", "").replace(".", "-")


@cache
def document() -> dict[str, Any]:
    """Return the document."""
    kinds = list(MESSAGE_TYPES.values())
    subjects = sorted({subject for kind in kinds for subject in kind.subjects})
    answers = sorted({answer.__name__ for kind in kinds for answer in kind.answers})
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "ClayTomSystems agent protocol",
            "version": PROTOCOL.rpartition("/")[2] + ".0.0",
            "description": (
                "Any program that speaks this over NATS is an agent. Operations are those of agents and hosts. "
                "docs/messages.md says the same for people."
            ),
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "localhost:4222",
                "protocol": "nats",
                "description": "The holding's NATS server (2.14 or later) with JetStream.",
                "security": [{"$ref": "#/components/securitySchemes/jwt"}],
            }
        },
        "channels": {
            **{channel_name(subject): _channel(subject, kinds) for subject in subjects},
            "answer": {
                "address": None,
                "description": "The inbox that the request names; it begins with the prefix of the credentials.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in answers},
            },
        },
        "operations": {
            f"{_action(kind)}-{kind.name}-{channel_name(subject)}": _operation(kind, subject)
            for kind in kinds
            for subject in kind.subjects
        },
        "components": {
            "messages": {
                **{kind.name: _message(kind) for kind in kinds},
                **{name: {"payload": {"$ref": f"#/components/schemas/{name}"}} for name in answers},
            },
            "schemas": _schemas(),
            "securitySchemes": {
                "jwt": {
                    "type": "asymmetricEncryption",
                    "description": "A user JWT and the signature of the server's nonce by its Ed25519 key.",
                }
            },
        },
    }


def _channel(subject: str, kinds: list[MessageType]) -> dict[str, Any]:
    names = [token.strip("{}") for token in subject.split(".") if token.startswith("{")]
    channel: dict[str, Any] = {
        "address": f"{ROOT}.{subject}",
        "messages": {
            kind.name: {"$ref": f"#/components/messages/{kind.name}"} for kind in kinds if subject in kind.subjects
        },
    }
    if names:
        channel["parameters"] = {name: _parameter(name) for name in names}
    stream = stream_of(f"{ROOT}.{example(subject)}")
    if stream is not None:
        channel["description"] = f"Kept by the stream {stream['name']}."
    return channel


def example(subject: str) -> str:
    """Return the subject with an example for each token."""
    return re.sub(r"\{(\w+)\}", lambda token: EXAMPLES.get(token[1], "example"), subject)


def _parameter(name: str) -> dict[str, Any]:
    parameter: dict[str, Any] = {"description": TOKENS[name]}
    if name == "role":
        parameter["enum"] = list(ROLES)
    return parameter


def _action(kind: MessageType) -> str:
    return "send" if kind.sender in ("agent", "host", "seat", "subordinate") else "receive"


def _operation(kind: MessageType, subject: str) -> dict[str, Any]:
    channel = channel_name(subject)
    operation: dict[str, Any] = {
        "action": _action(kind),
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{kind.name}"}],
        "summary": f"{kind.sender} to {kind.receiver}: {kind.name}",
        "description": f"{kind.rule} Identity: {kind.key}.",
    }
    if kind.name == "work.assigned":
        operation["bindings"] = {"nats": {"queue": "{sub}-{role}", "bindingVersion": "0.1.0"}}
    if kind.answers and stream_of(f"{ROOT}.{example(subject)}") is None:
        operation["reply"] = {
            "address": {"location": "$message.header#/reply", "description": "NATS's reply subject."},
            "channel": {"$ref": "#/channels/answer"},
            "messages": [{"$ref": f"#/channels/answer/messages/{answer.__name__}"} for answer in kind.answers],
        }
    return operation


def _message(kind: MessageType) -> dict[str, Any]:
    return {
        "name": kind.ce_type,
        "title": kind.name,
        "summary": (kind.body.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/json",
        "headers": _headers(kind),
        "payload": {"$ref": f"#/components/schemas/{kind.body.__name__}"},
        "examples": [{"name": kind.name.replace(".", "-"), "payload": BODIES[kind.name]}],
    }


def _headers(kind: MessageType) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "string", "description": text} for name, text in TRAITS.items()}
    properties["ce-type"] = {"type": "string", "const": kind.ce_type}
    headers: dict[str, Any] = {"type": "object", "properties": properties}
    if kind.attributed:
        headers["required"] = ["ce-type", "ce-source"]
    return headers


def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = _draft07(components("#/components/schemas/{name}"))
    return schemas


def _draft07(node: Any) -> Any:
    """Write tuples as AsyncAPI's own dialect has them."""
    if isinstance(node, list):
        return [_draft07(item) for item in node]
    if not isinstance(node, dict):
        return node
    written = {key: _draft07(value) for key, value in node.items()}
    if "prefixItems" in written:
        written["items"] = written.pop("prefixItems")
        written["additionalItems"] = False
    return written
