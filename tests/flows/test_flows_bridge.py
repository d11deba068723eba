"""What an application declares of a bridge, how settings name its broker, and which messages cross: pure parts."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import App, Bridge, Topic
from headwater.flows.link import remote
from headwater.flows.route import HOPS, ROUTE, carried, hops_of
from headwater.flows.run_command import run
from headwater.flows.settings import Settings, load
from headwater.lineage.errors import Forbidden, Invalid, Misused
from headwater.lineage.event import Position


class Flight(BaseModel):
    id: str


flights = Topic("flights", Flight, partitions=4)
HERE = Position("us", "flights", 2, 17)


def test_topics_by_name_and_by_pattern():
    """A name means itself; a pattern means every topic of the application whose whole name it matches, never one of headwater's own."""
    bridge = Bridge("eu", topics=[flights, "plain", "^plans\\..*"], receive=["^.*"])
    there = ["flights", "flights2", "plain", "plans.a", "more.plans.a", "headwater.lineage", "__consumer_offsets"]
    assert bridge.names("send", there) == ["flights", "plain", "plans.a"]
    assert bridge.names("receive", there) == ["flights", "flights2", "more.plans.a", "plain", "plans.a"]
    assert bridge.named("send") == ["flights", "plain"]
    assert Bridge("eu", topics=[flights], receive=False).names("receive", there) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "EU", "topics": [flights]}, "small letters"),
        ({"name": "eu__west", "topics": [flights]}, "small letters"),
        ({"name": "eu", "topics": []}, "carries nothing"),
        ({"name": "eu", "topics": [flights], "send": False, "receive": False}, "carries nothing"),
        ({"name": "eu", "topics": [flights], "hops": 0}, "at least 1"),
        ({"name": "eu", "topics": ["headwater.decisions"]}, "headwater's own"),
        ({"name": "eu", "topics": ["^(open"]}, "no pattern"),
    ],
)
def test_a_wrong_declaration_is_refused(given, said):
    """By name, with what to do."""
    with pytest.raises(Misused, match=said):
        Bridge(**given)


def test_bridged_topics_belong_to_the_application():
    """They are created with it, and bridges have names of their own."""
    assert App("a", bridges=[Bridge("eu", topics=[flights])]).partitions["flights"] == 4
    with pytest.raises(Misused, match="bridges"):
        App("a", bridges=[Bridge("eu", topics=[flights]), Bridge("eu", topics=[flights])])


def test_settings_name_the_other_regions_broker(tmp_path):
    """Any property, by region; a secret may lie in a file and is masked; what is no property of a region is warned of."""
    (tmp_path / "secret").write_text("hidden\n")
    found = load(
        environ={
            "HEADWATER_BRIDGE__EU_WEST__BOOTSTRAP_SERVERS": "eu:9092",
            "HEADWATER_BRIDGE__EU_WEST__SASL_PASSWORD_FILE": str(tmp_path / "secret"),
            "HEADWATER_BRIDGE__US__BOOTSTRAP_SERVERS": "us:9092",
            "HEADWATER_BRIDGE__EU": "eu:9092",
        },
        dotenv=None,
    )
    assert found.bridges == {
        "eu_west": {"bootstrap.servers": "eu:9092", "sasl.password": "hidden"},
        "us": {"bootstrap.servers": "us:9092"},
    }
    shown = {setting.name: setting.shown for setting in found.origins}
    assert shown["HEADWATER_BRIDGE__EU_WEST__SASL_PASSWORD"] == "********"
    assert [warning for warning in found.warnings if "HEADWATER_BRIDGE__EU " in warning]


NAMES = st.sampled_from(["us", "eu", "asia", "africa"])
HEADERS = st.lists(st.tuples(st.sampled_from(["ce_id", "a", "a", "content-type"]), st.binary(max_size=5) | st.none()), max_size=5)


@given(HEADERS)
def test_an_event_of_here_crosses_with_all_its_headers(headers):
    """Every header stays, in order, and two are added that say where the event began and where it was."""
    crossing = carried(headers, HERE, "eu")
    assert crossing == [*headers, (ROUTE, b"us/flights/2/17"), (HOPS, b"us/flights/2/17")]


@given(HEADERS, st.lists(NAMES, min_size=1, max_size=9), NAMES, st.booleans(), st.integers(1, 9))
def test_no_event_comes_to_a_broker_twice(headers, been, target, relay, most):
    """What has been at the target stays, and so does what came over a bridge, unless it is relayed; beyond the limit it is refused."""
    hops = [Position(broker, "flights", 2, n) for n, broker in enumerate(been)]
    given = [*headers, (ROUTE, str(hops[0]).encode()), (HOPS, ",".join(map(str, hops)).encode())]
    if not relay or target in been:
        assert carried(given, HERE, target, relay=relay, most=most) is None
    elif len(been) >= most:
        with pytest.raises(Forbidden, match=f"passed {len(been)} brokers"):
            carried(given, HERE, target, relay=relay, most=most)
    else:
        crossing = carried(given, HERE, target, relay=relay, most=most)
        assert crossing is not None
        assert crossing[: len(headers)] == headers
        assert dict(crossing)[ROUTE] == str(hops[0]).encode()
        assert hops_of(crossing) == [*hops, HERE]


@pytest.mark.parametrize("hops", [b"\xff", b"nothing", b"us/flights/2/17,", b"us/flights/2/x"])
def test_hops_that_name_no_positions_are_refused(hops):
    """Nobody can tell where such an event has been, so it is not sent round."""
    with pytest.raises(Invalid, match="headwater-hops"):
        carried([(HOPS, hops)], HERE, "eu", relay=True)


def test_a_region_without_a_broker_is_refused():
    """By the variable to set; so is a property that no client knows."""
    app = App("a", bridges=[Bridge("eu-west", topics=[flights])])
    with pytest.raises(Misused, match="HEADWATER_BRIDGE__EU_WEST__BOOTSTRAP_SERVERS"):
        remote(SimpleNamespace(settings=Settings()), app.bridges[0])
    odd = Settings(bridges={"eu_west": {"bootstrap.servers": "eu:9092", "no.such.thing": "1"}})
    with pytest.raises(Misused, match=r"no\.such\.thing"):
        remote(SimpleNamespace(settings=odd), app.bridges[0])
    assert remote(SimpleNamespace(settings=Settings(bridges={"eu_west": {"bootstrap.servers": "eu:9092"}})), app.bridges[0])


def test_an_application_without_bridges_has_no_flow_bridge(tmp_path):
    """`headwater run bridge` says what to add."""
    (tmp_path / "app.py").write_text("from headwater import App\napp = App('plain')\n")
    settings = Settings(home=tmp_path, kafka={"bootstrap.servers": "127.0.0.1:1"})
    with pytest.raises(Misused, match="declares no bridge"):
        run(settings, "bridge", str(tmp_path / "app.py"), 1, None, [], 0.5)
    with pytest.raises(Misused, match="run it once, with one worker"):
        run(settings, "bridge", str(tmp_path / "app.py"), 2, None, [], 0.5)
