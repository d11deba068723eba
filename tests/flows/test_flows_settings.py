"""Settings: flag > environment > .env > default; secrets masked; what is wrong is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.flows.settings import VARIABLES, Settings, load
from headwater.lineage.errors import Misused


def settings(flags=None, environ=None, dotenv=None) -> Settings:
    return load(flags, environ or {}, dotenv)


def origin(found: Settings, name: str) -> tuple[str, str]:
    return next((each.value, each.origin) for each in found.origins if each.name == name)


@given(st.sets(st.sampled_from(["flag", "environment", ".env"])))
def test_the_nearest_source_wins(tmp_path_factory, given_by):
    """Of flag, environment and .env the first that says something counts, whatever the others say; its name is told."""
    file = tmp_path_factory.mktemp("dotenv") / ".env"
    file.write_text("HEADWATER_MODEL=from-.env\n" if ".env" in given_by else "")
    flags = {"HEADWATER_MODEL": "from-flag" if "flag" in given_by else None}
    environ = {"HEADWATER_MODEL": "from-environment"} if "environment" in given_by else {}
    found = settings(flags, environ, file)
    first = next((each for each in ("flag", "environment", ".env") if each in given_by), None)
    assert found.model == (f"from-{first}" if first else "local")
    assert origin(found, "HEADWATER_MODEL") == ((f"from-{first}", first) if first else ("local", "default"))


def test_every_setting_is_listed_once_with_its_origin():
    """Without anything said, all variables stand there with their defaults."""
    found = settings()
    assert sorted(each.name for each in found.origins) == sorted(VARIABLES)
    assert {each.origin for each in found.origins} == {"default"}
    assert found == Settings(origins=found.origins)


def test_kafka_properties_pass_through():
    """HEADWATER_KAFKA__ANY_PROPERTY becomes any.property, whatever librdkafka calls it."""
    found = settings(environ={"HEADWATER_KAFKA__BOOTSTRAP_SERVERS": "a:1,b:2", "HEADWATER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"})
    assert found.kafka == {"bootstrap.servers": "a:1,b:2", "security.protocol": "SASL_SSL"}
    assert found.warnings == ()


@pytest.mark.parametrize("name", ["HEADWATER_KAFKA__SASL_PASSWORD", "HEADWATER_QDRANT__API_KEY", "HEADWATER_KAFKA__SSL_KEY_PEM"])
def test_secrets_are_masked(name):
    """What is secret is shown as stars, never as it is."""
    [setting] = [each for each in settings(environ={name: "hunter2"}).origins if each.name == name]
    assert setting.value == "hunter2"
    assert set(setting.shown) == {"*"}


def test_a_secret_may_lie_in_a_file(tmp_path):
    """NAME_FILE reads the value from a file, without its line end; a file that is not there is named."""
    (tmp_path / "secret").write_text("hunter2\n")
    environ = {"HEADWATER_QDRANT__API_KEY_FILE": f"{tmp_path}/secret", "HEADWATER_KAFKA__SASL_PASSWORD_FILE": f"{tmp_path}/secret"}
    found = settings(environ=environ)
    assert (found.qdrant_api_key, found.kafka["sasl.password"]) == ("hunter2", "hunter2")
    with pytest.raises(Misused, match=r"HEADWATER_QDRANT__API_KEY_FILE=/nowhere: cannot read the file"):
        settings(environ={"HEADWATER_QDRANT__API_KEY_FILE": "/nowhere"})


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("HEADWATER_HOM", "HEADWATER_HOME"),
        ("HEADWATER_QDRANT_URL", "HEADWATER_QDRANT__URL"),
        ("HEADWATER_KAFKA_BOOTSTRAP_SERVERS", "HEADWATER_KAFKA__BOOTSTRAP_SERVERS"),
    ],
)
def test_an_unknown_variable_warns_with_the_nearest(wrong, near):
    """A misspelt variable is no silent nothing."""
    assert settings(environ={wrong: "x"}).warnings == (f"{wrong} is not a setting; did you mean {near}?",)


def test_other_peoples_variables_are_left_alone():
    """Only HEADWATER_ is ours, and HEADWATER_TEST_ is the tests'."""
    assert settings(environ={"PATH": "/bin", "HEADWATERS": "1", "HEADWATER_TEST_KAFKA": "x"}).warnings == ()


def test_a_property_that_stays_ours_warns():
    """What is accounted for hangs on three properties; whoever sets one is told that it changes nothing."""
    [told] = settings(environ={"HEADWATER_KAFKA__ENABLE_AUTO_COMMIT": "true", "HEADWATER_KAFKA__CLIENT_ID": "x"}).warnings
    assert told.startswith("HEADWATER_KAFKA__ENABLE_AUTO_COMMIT changes nothing")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("HEADWATER_HTTP__PORT", "http", "65535"),
        ("HEADWATER_HTTP__PORT", "70000", "65535"),
        ("HEADWATER_INDEX__HISTORY", "long", "24h"),
        ("HEADWATER_INDEX__QUANTIZATION", "ternary", "none, scalar, binary"),
        ("HEADWATER_INDEX__ON_DISK", "perhaps", "false, true"),
        ("HEADWATER_QDRANT__GRPC_PORT", "70000", "port"),
        ("HEADWATER_LOG", "loud", "debug, info, warning, error"),
    ],
)
def test_a_wrong_value_is_named(name, value, allowed):
    """The message holds the variable, the value and what is allowed."""
    with pytest.raises(Misused) as raised:
        settings(environ={name: value})
    assert all(part in str(raised.value) for part in (name, repr(value), allowed))


def test_right_values_are_typed():
    """Numbers and paths come out as such."""
    found = settings(environ={"HEADWATER_HTTP__PORT": "0", "HEADWATER_HOME": "/x/y"})
    assert (found.http_port, found.home) == (0, Path("/x/y"))


def test_the_registry_has_an_address_without_secrets(tmp_path):
    """User and password are settings of their own, for an address is shown; what is no address is refused."""
    url = "HEADWATER_SCHEMA_REGISTRY__URL"
    (tmp_path / "password").write_text("sesame\n")
    found = settings(environ={url: "https://registry:8081", "HEADWATER_SCHEMA_REGISTRY__PASSWORD_FILE": f"{tmp_path}/password"})
    assert (found.registry_url, found.registry_password) == ("https://registry:8081", "sesame")
    assert "sesame" not in str([(each.name, each.shown) for each in found.origins])
    with pytest.raises(Misused, match="HEADWATER_SCHEMA_REGISTRY__USER") as refused:
        settings(environ={url: "http://ada:sesame@registry"})
    assert "sesame" not in str(refused.value)
    with pytest.raises(Misused, match="it takes an address such as"):
        settings(environ={url: "registry:8081"})
