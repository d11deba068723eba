"""The schema registry's client against a real HTTP server that speaks its REST interface."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from headwater.flows.registry import Registry, registry_of
from headwater.flows.settings import Settings
from headwater.lineage.changes import breaking
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.topic import Topic


class Reading(BaseModel):
    gauge: str


class Wider(BaseModel):
    gauge: str
    metres: float | None = None


class Narrower(BaseModel):
    gauge: str
    metres: float


class Stub(BaseHTTPRequestHandler):
    """A registry with backward compatibility, as documented: subjects, versions, ids, error codes, basic authentication."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append((self.path, self.headers["content-type"]))
        if server.login and self.headers.get("authorization") != server.login:
            return self.answer(401, {"error_code": 401, "message": "unauthorised"})
        assert body["schemaType"] == "JSON"
        schema = json.loads(body["schema"])
        parts = self.path.partition("?")[0].strip("/").split("/")
        subject = parts[-3] if parts[0] == "compatibility" else parts[1]
        known = server.subjects.setdefault(subject, []) if parts[0] == "subjects" else server.subjects.get(subject)
        if parts[0] == "compatibility":
            if not known:
                return self.answer(404, {"error_code": 40401, "message": "no such subject"})
            told = [str(change) for change in breaking(known[-1], schema)]
            return self.answer(200, {"is_compatible": not told, "messages": told})
        if known and breaking(known[-1], schema):
            return self.answer(409, {"error_code": 409, "message": "incompatible"})
        if schema not in known:
            known.append(schema)
        return self.answer(200, {"id": 100 + known.index(schema)})

    def answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.subjects, server.asked, server.login = {}, [], ""  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def topic(model: type[Any], name: str = "readings") -> Topic[Any]:
    return Topic(name, model)


def test_schemas_are_registered_once(server):
    """As `TOPIC-value`; the same schema again keeps its id, a compatible one gets a new version."""
    registry = Registry(server.url + "/")
    registry.check([topic(Reading)])
    assert registry.register([topic(Reading)]) == registry.register([topic(Reading)]) == {"readings": 100}
    registry.check([topic(Wider)])
    assert registry.register([topic(Wider), topic(Reading, "others")]) == {"readings": 101, "others": 100}
    assert set(server.subjects) == {"readings-value", "others-value"}
    assert {kind for _, kind in server.asked} == {"application/vnd.schemaregistry.v1+json"}
    registry.close()


def test_an_incompatible_schema_is_refused_with_the_reason(server):
    """The topic, the model and the registry's own words; nothing is registered."""
    registry = Registry(server.url)
    registry.register([topic(Reading)])
    with pytest.raises(Misused, match=r"topic readings: .* Narrower .*readings-value: metres: is new and required"):
        registry.check([topic(Reading, "others"), topic(Narrower)])
    with pytest.raises(Misused, match="topic readings: the schema registry refuses its schema: incompatible"):
        registry.register([topic(Narrower)])
    assert len(server.subjects["readings-value"]) == 1


def test_user_and_password(server):
    """They are sent, and told to nobody."""
    server.login = "Basic " + base64.b64encode(b"ada:sesame").decode()
    registry = registry_of(Settings(registry_url=server.url, registry_user="ada", registry_password="sesame"))
    assert registry is not None and registry.register([topic(Reading)]) == {"readings": 100}
    with pytest.raises(Misused, match="HEADWATER_SCHEMA_REGISTRY__PASSWORD") as refused:
        Registry(server.url, "ada", "open-up").check([topic(Reading)])
    assert "open-up" not in str(refused.value)


def test_nothing_there(server):
    """Nobody answers, or somebody who is no registry: try again later, with the address named."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 \(HEADWATER_SCHEMA_REGISTRY__URL\) does not answer"):
        Registry("http://127.0.0.1:9").check([topic(Reading)])
    with pytest.raises(Unavailable, match="asked about topic readings, answers 404"):
        Registry(f"{server.url}/compatibility/subjects/readings-value").register([topic(Reading)])
    for answer, told in ((httpx.Response(200, json={"hello": 1}), "told no id"), (httpx.Response(200, text="<html>"), "no JSON object")):
        transport = httpx.MockTransport(lambda request, answer=answer: answer)
        with pytest.raises(Unavailable, match=told):
            Registry("http://elsewhere", transport=transport).register([topic(Reading)])


def test_no_setting_no_registry():
    """Without the setting nothing is asked."""
    assert registry_of(Settings()) is None
