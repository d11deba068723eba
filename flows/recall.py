"""One message of a partition, read again."""

from headwater.agents.journal import Decided, decode_page
from headwater.flows.drain import scan
from headwater.flows.kafka import Kafka
from headwater.lineage.errors import NotFound
from headwater.lineage.event import Message
from headwater.lineage.topic import DECISIONS


def message_at(kafka: Kafka, topic: str, partition: int, offset: int) -> Message | None:
    """The message at this offset, if it is still there. What others have in open transactions hides nothing. Raises Unavailable."""
    for message in scan(kafka, topic, partition, offset, "read_uncommitted"):
        return message if message.offset == offset else None
    return None


def decided_at(kafka: Kafka, partition: int, offset: int, decision: str) -> Decided:
    """The decision that lies there. Raises NotFound, Unavailable."""
    message = message_at(kafka, DECISIONS, partition, offset)
    entries = decode_page(message.value or b"") if message is not None else []
    for entry in entries:
        if isinstance(entry, Decided) and entry.id == decision:
            return entry
    raise NotFound(f"the decision {decision} is no longer at {DECISIONS}/{partition}@{offset}: retention took it")
