"""What the client's errors mean: a table over every code there is."""

import pytest
from confluent_kafka import KafkaError

from headwater.flows.faults import fault_of

CODES = sorted(
    value
    for name in dir(KafkaError)
    if name.lstrip("_").isupper() and isinstance(value := getattr(KafkaError, name), int) and value != KafkaError.NO_ERROR
)

EXPECTED = {
    "end": {KafkaError._PARTITION_EOF},
    "lost": {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION},
    "gone": {
        KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNKNOWN_TOPIC_ID, KafkaError.INCONSISTENT_TOPIC_ID,
    },
    "unreadable": {
        KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED, KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.UNSUPPORTED_COMPRESSION_TYPE, KafkaError.INVALID_RECORD,
    },
    "fail": {
        KafkaError._FATAL, KafkaError._AUTHENTICATION, KafkaError._CRIT_SYS_RESOURCE, KafkaError._INVALID_ARG,
        KafkaError._UNSUPPORTED_FEATURE, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.SECURITY_DISABLED, KafkaError.UNSUPPORTED_VERSION,
    },
}  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_one_meaning(code):
    """What is listed means what the list says; whatever else a client may say is tried again."""
    expected = [fault for fault, codes in EXPECTED.items() if code in codes] or ["retry"]
    assert [fault_of(KafkaError(code))] == expected


def test_a_fatal_error_ends_the_flow_whatever_its_code():
    """The client says itself that it is beyond mending."""
    assert fault_of(KafkaError(KafkaError._TRANSPORT, "gone for good", True)) == "fail"
    assert fault_of(KafkaError(KafkaError._TRANSPORT)) == "retry"
