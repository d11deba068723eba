"""What a start does first: the flows go on with what lies behind them; who may publish here is heard once it is known what came lately."""

from pathlib import Path

from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import load
from headwater.flows.broker import Broker
from headwater.flows.gateway import Gateway
from headwater.flows.settings import load as load_settings
from headwater.flows.up import Up

APPLICATION = Path(__file__).parent.parent / "walk" / "application.py"


def test_flows_run_before_the_gateway_has_learnt_and_the_door_opens_after(tmp_path, monkeypatch):
    """While the gateway reads what came lately every flow runs and no door is open; where nobody can publish it reads nothing."""
    found, started = [], []
    remember = Gateway.remember

    def watched(gateway, kafka, broker, topic):
        up = started[-1]
        found.append((topic.name, all(flow.alive for flow in up._flows.values()), up.address))
        remember(gateway, kafka, broker, topic)

    monkeypatch.setattr(Gateway, "remember", watched)
    with Broker() as broker:
        for http in (False, True):
            given = {"HEADWATER_HOME": str(tmp_path), "HEADWATER_KAFKA__BOOTSTRAP_SERVERS": broker.address, "HEADWATER_HTTP__PORT": "0"}
            up = Up(load(str(APPLICATION)), load_settings(given, dotenv=Path("/none")), http=http, embedder=HashEmbedder())
            started.append(up)
            with up:
                assert up.ready() and len(up._flows) == 4
                assert bool(up.address) is http
                assert [alive and not address for _, alive, address in found] == [True] * len(found)
            assert bool(found) is (http or bool(up.app.files))
    assert "readings" in {name for name, _, _ in found}
