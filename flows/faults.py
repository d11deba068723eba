"""What the Kafka client's errors mean to a reader: one table, and nothing else decides."""

from typing import Literal

from confluent_kafka import KafkaError

Fault = Literal["end", "lost", "unreadable", "gone", "retry", "fail"]
"""end         the end of a partition, no fault at all
lost        the offset asked for is not there (any more): retention overtook the reader, or the topic was made anew
unreadable  one place holds what no client can read (checksum, compression, form): it alone is left out
gone        topic or partition is not there: the others go on
retry       passes, or the client mends it by itself
fail        neither time nor the client mends it: the flow ends by this error's name
"""

_LOST = frozenset((KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE))
_UNREADABLE = frozenset(
    (
        KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED, KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.UNSUPPORTED_COMPRESSION_TYPE, KafkaError.INVALID_RECORD,
    )
)  # fmt: skip
_GONE = frozenset(
    (
        KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNKNOWN_TOPIC_ID, KafkaError.INCONSISTENT_TOPIC_ID,
    )
)  # fmt: skip
_FAIL = frozenset(
    (
        KafkaError._FATAL, KafkaError._AUTHENTICATION, KafkaError._CRIT_SYS_RESOURCE, KafkaError._INVALID_ARG,
        KafkaError._UNSUPPORTED_FEATURE, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.SECURITY_DISABLED, KafkaError.UNSUPPORTED_VERSION,
    )
)  # fmt: skip

CUT_OFF = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN))
"""The broker has fallen silent: what it said of ends of partitions may be old."""


def fault_of(error: KafkaError) -> Fault:
    """What an error that a poll handed over means.

    What is in no list passes: the client keeps trying by itself. Refused group requests do, too: groups are for lag tools only.
    """
    code = error.code()
    if code == KafkaError._PARTITION_EOF:
        return "end"
    if code in _FAIL or error.fatal():
        return "fail"
    if code in _LOST:
        return "lost"
    if code in _UNREADABLE:
        return "unreadable"
    return "gone" if code in _GONE else "retry"
