"""Properties pass through to every Kafka client, and no secret comes out again: not in logs, errors, `repr` or `config`."""

import contextlib
import logging
import time

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from headwater.flows.kafka import Kafka
from headwater.flows.reader import Reader
from headwater.flows.secrets import STARS, is_secret, secrets_of, without
from headwater.flows.settings import Setting, load
from headwater.flows.source import TopicSource
from headwater.lineage.errors import Misused, Unavailable

SECRETS = {
    "sasl.password": "hunter2-sasl",
    "ssl.key.password": "hunter2-key",
    "ssl.keystore.password": "hunter2-store",
    "ssl.key.pem": "-----BEGIN PRIVATE KEY-----hunter2-pem",
    "sasl.oauthbearer.config": "principal=hunter2-oauth scope=hunter2-scope",
    "sasl.oauthbearer.client.secret": "hunter2-client",
    "sasl.oauthbearer.assertion.private.key.passphrase": "hunter2-phrase",
    "sasl.oauthbearer.assertion.private.key.pem": "hunter2-assertion",
}
PLAIN = {
    "bootstrap.servers": "127.0.0.1:1", "security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": "u",
    "ssl.ca.location": "/ca.pem.d", "ssl.key.location": "/key", "sasl.oauthbearer.token.endpoint.url": "https://id",
}  # fmt: skip


def environment(properties: dict[str, str]) -> dict[str, str]:
    return {"HEADWATER_KAFKA__" + name.upper().replace(".", "_"): value for name, value in properties.items()}


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_secret_is_known(name):
    """By its property's name and by its variable's."""
    assert is_secret(name) and is_secret("HEADWATER_KAFKA__" + name.upper().replace(".", "_"))


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_secret_is_shown(name):
    """Where a secret lies, and what is public, helps whoever looks for a mistake."""
    assert not is_secret(name)


def test_settings_tell_no_secret():
    """Every property arrives as it was given; settings, their origins and what `config` shows hold none of them."""
    settings = load(environ=environment({**PLAIN, **SECRETS}), dotenv=None)
    assert settings.kafka == {**PLAIN, **SECRETS}
    shown = repr(settings) + "".join(f"{each!r}{each}{each.shown}" for each in settings.origins)
    assert "hunter2" not in shown and "sasl_ssl" in shown
    assert repr(Setting("HEADWATER_QDRANT__API_KEY", "hunter2", "flag")).count(STARS) == 1


def test_a_property_that_names_a_file_is_no_secret_in_a_file(tmp_path):
    """`…_FILE` reads a value from a file, but where the client's own property is called so."""
    (tmp_path / "password").write_text("hunter2\n")
    given = {"SASL_PASSWORD_FILE": f"{tmp_path}/password", "SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE": "/run/key"}
    found = load(environ={"HEADWATER_KAFKA__" + name: value for name, value in given.items()}, dotenv=None)
    assert found.kafka == {"sasl.password": "hunter2", "sasl.oauthbearer.assertion.private.key.file": "/run/key"}


@pytest.mark.parametrize("make", [lambda k: k.consumer("g"), lambda k: k.producer(), lambda k: k.admin])
def test_properties_reach_every_client(make):
    """A property that the client does not take is refused by its name, whichever client it is; secrets are left out."""
    with pytest.raises(Misused, match=r"HEADWATER_KAFKA__.*no\.such\.property"):
        make(Kafka({**PLAIN, "no.such.property": "1"}))
    with pytest.raises(Misused) as refused:
        make(Kafka({**PLAIN, "sasl.password": "hunter2-sasl", "ssl.key.pem": "hunter2-pem", "security.protocol": "hunter2-sasl"}))
    assert "hunter2" not in str(refused.value)


def test_three_properties_are_ours(kafka, name):
    """Accounting hangs on offsets that nobody resets or commits: a property that says otherwise changes nothing."""
    kafka.create({name: 1})
    loose = Kafka({**kafka.properties, "auto.offset.reset": "earliest", "enable.partition.eof": "false", "enable.auto.commit": "true"})
    source = TopicSource(loose, "b", {name: 1}, name, slots=1, end=True)
    slot = source.build_part("s", "0", None)
    with contextlib.suppress(StopIteration):
        for _ in range(3000):
            slot.next_batch()
            time.sleep(0.01)
        raise AssertionError("the end was never told")
    slot.close()


@pytest.mark.parametrize(
    "mechanism",
    [
        {"sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "hunter2-sasl"},
        {"sasl.mechanism": "OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": "what=hunter2-oauth"},
    ],
)
def test_the_client_says_no_secret(kafka, mechanism):
    """All that librdkafka says at its most talkative, while it cannot log in, holds no secret; nor does the error that comes of it."""
    said: list[str] = []
    former = structlog.get_config()
    structlog.configure(
        processors=[lambda logger, method, event: said.append(repr(event)) or "logged"],
        logger_factory=structlog.ReturnLoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    try:
        talkative = Kafka({**kafka.properties, "security.protocol": "sasl_plaintext", "debug": "all", **mechanism})
        with pytest.raises(Unavailable) as refused:
            talkative.broker_id(timeout=1.5)
        reader = Reader(talkative, "g", batch=10)
        told = ""
        try:
            for _ in range(100):
                for message in reader.consumer.consume(10, 0.01):
                    reader._note(message, message.error())
                talkative.admin.poll(0)
        except Unavailable as error:
            told = str(error)
        reader.consumer.close()
    finally:
        structlog.configure(**former)
    assert any("librdkafka" in line for line in said)
    assert "hunter2" not in "".join(said) + str(refused.value) + told


@given(st.dictionaries(st.sampled_from(sorted(SECRETS)), st.text(min_size=4, max_size=30), min_size=1), st.text(max_size=20))
def test_no_text_keeps_a_secret(properties, around):
    """Whatever text a secret stands in, it does not stand in it afterwards."""
    secrets = secrets_of(properties)
    for value in properties.values():
        assert value not in without(f"{around}{value}{around}", secrets) or value in STARS * 2
