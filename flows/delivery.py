"""What the client says of the messages of a lane's transaction: where the last of each partition lies, or why one failed."""

from collections.abc import Callable
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from headwater.flows.crossing import Crossing
from headwater.flows.readback import Mark

Told: TypeAlias = Callable[[KafkaError | None, KafkaMessage], None]


def teller(one: Crossing, found: dict[int, Mark], failed: list[KafkaError]) -> Told:
    """Only a partition's last message tells: an idempotent producer is acknowledged in order, and one that failed fails the commit."""

    def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
        if error is not None:
            failed.append(error)
        else:
            found[one.partition] = Mark(one.offset + 1, int(message.offset()))

    return delivered


def cause_of(producer: Producer, failed: KafkaError, patience_s: float) -> KafkaException:
    """Why messages failed: after a fence they may only say that they were thrown away, while the transaction says why."""
    try:
        producer.commit_transaction(patience_s)  # cannot succeed any more
    except KafkaException as error:
        if error.args[0].fatal():
            return error
    return KafkaException(failed)
