"""What every test stands on: a hypothesis profile, and one embedded broker (or the real one that HEADWATER_TEST_KAFKA names)."""

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from headwater.flows.broker import Broker
from headwater.flows.kafka import Kafka

settings.register_profile("headwater", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headwater")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A broker for the whole session; tests use topics of their own."""
    address = os.environ.get("HEADWATER_TEST_KAFKA")
    if address:
        yield Kafka({"bootstrap.servers": address})
        return
    with Broker() as broker:
        yield broker.kafka


@pytest.fixture
def name() -> str:
    """A name no other test uses, for topics and groups."""
    return f"t-{uuid.uuid4().hex[:12]}"
