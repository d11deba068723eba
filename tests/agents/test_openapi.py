"""OpenApi: operations of a real HTTP API, called over loopback from the document that the API itself gives."""

import asyncio
import json
import threading

import httpx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import PlainTextResponse, RedirectResponse
from pydantic import BaseModel, Field

from headwater.agents.fate import fate_of
from headwater.agents.openapi import OpenApi
from headwater.agents.schema import portable
from headwater.lineage.errors import EffectFailed, Invalid, Limited, Misused, Unavailable

KEY = "Bearer s3cret-of-the-shop"


class Order(BaseModel):
    item: str = Field(min_length=1)
    many: int = Field(ge=1, le=9)
    notes: list[str] | None = None


def shop():
    app = FastAPI()
    seen = []

    @app.middleware("http")
    async def note(request: Request, go):
        sent = dict(request.headers)
        told = {"method": request.method, "path": request.scope["raw_path"].decode(), "query": request.url.query, "headers": sent}
        seen.append({**told, "body": await request.body()})
        if sent.get("authorization") != KEY:
            return PlainTextResponse("who are you?", 401)
        return await go(request)

    @app.get("/orders/{order_id}", operation_id="getOrder")
    async def get_order(order_id: str, fields: list[str] | None = None, deep: bool = False, x_trace: str | None = Header(None)):
        """One order."""
        return {"id": order_id, "deep": deep}

    @app.put("/orders/{order_id}", operation_id="putOrder")
    async def put_order(order_id: str, order: Order):
        return order

    @app.post("/orders", operation_id="createOrder", status_code=201)
    async def create_order(order: Order):
        return {"id": "new"}

    @app.delete("/orders/{order_id}", operation_id="cancelOrder", status_code=204)
    async def cancel_order(order_id: str):
        return None

    @app.get("/status/{code}", operation_id="status")
    async def status(code: int, request: Request):
        raise HTTPException(code, f"told {request.headers['authorization']}")

    @app.get("/away", operation_id="away")
    async def away():
        return RedirectResponse("http://192.0.2.1/elsewhere")

    @app.get("/large", operation_id="large")
    async def large():
        return "x" * 5000

    @app.get("/text", operation_id="text", response_class=PlainTextResponse)
    async def text():
        return "plain words"

    app.state.seen = seen
    return app


@pytest.fixture(scope="module")
def running():
    app = shop()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    document = httpx.get(f"{url}/openapi.json", headers={"authorization": KEY}, timeout=60).json()
    yield url, document, app.state.seen
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def api(running, monkeypatch):
    url, document, seen = running
    monkeypatch.setenv("SHOP_KEY", KEY)
    seen.clear()

    def make(**options):
        return OpenApi("shop", document, url=url, secrets={"authorization": "SHOP_KEY"}, **options)

    return make


def call(tool, effect="", **arguments):
    return asyncio.run(tool.call(tool.checked(arguments), effect))


def test_each_operation_is_a_tool_of_its_own(api):
    """Name, scope, and the kind of its method; the application may know better."""
    tools = {tool.name: tool for tool in api(kinds={"createOrder": "idempotent"}).tools()}
    kinds = {name: tool.kind for name, tool in tools.items()}
    assert kinds | {} == {
        "shop/getOrder": "read", "shop/putOrder": "idempotent", "shop/createOrder": "idempotent", "shop/cancelOrder": "idempotent",
        "shop/status": "read", "shop/away": "read", "shop/large": "read", "shop/text": "read",
    }  # fmt: skip
    assert api().tools("createOrder")[0].kind == "plain"
    assert all(tool.scope == f"openapi:{name}" for name, tool in tools.items()) and "One order." in tools["shop/getOrder"].description


def test_arguments_go_where_the_document_says(api, running):
    """Path, query and body, percent-encoded; the effect id is the idempotency key of what acts, and of nothing that reads."""
    get, put, create, cancel, text = api().tools("getOrder", "putOrder", "createOrder", "cancelOrder", "text")
    assert call(get, order_id="b ?#ü", deep=True) == {"id": "b ?#ü", "deep": True}
    assert call(put, "effect-1", order_id="7", body={"item": "tea", "many": 2}) == {"item": "tea", "many": 2, "notes": None}
    assert call(create, "effect-2", body={"item": "tea", "many": 1}) == {"id": "new"}
    assert call(cancel, "effect-3", order_id="7") is None and call(text) == "plain words"
    seen = running[2]
    assert seen[0]["path"] == "/orders/b%20%3F%23%C3%BC" and seen[0]["query"] == "deep=true"
    assert json.loads(seen[1]["body"]) == {"item": "tea", "many": 2} and seen[1]["method"] == "PUT"
    assert get.function._request({"order_id": "a/b"})[0].endswith("/orders/a%2Fb")
    assert [each["headers"].get("idempotency-key") for each in seen] == [None, "effect-1", "effect-2", "effect-3", None]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("getOrder", {}, "order_id"),
        ("getOrder", {"order_id": ".."}, "another path"),
        ("getOrder", {"order_id": ""}, "another path"),
        ("getOrder", {"order_id": "1", "x-trace": "a\r\nauthorization: other"}, "header"),
        ("getOrder", {"order_id": "1", "surprise": 1}, "surprise"),
        ("createOrder", {"body": {"item": "tea", "many": 10}}, "many"),
        ("createOrder", {"body": {"item": "", "many": 1}}, "item"),
        ("createOrder", {}, "body"),
    ],
)
def test_what_does_not_fit_is_not_sent(api, running, name, arguments, told):
    """Arguments are held against the document's schemas, references and bounds included; nothing leads to another path or header."""
    [tool] = api().tools(name)
    with pytest.raises(Invalid, match=told):
        call(tool, **arguments)
    assert running[2] == []


@pytest.mark.parametrize(
    ("status", "error", "fate"),
    [
        (400, EffectFailed, "refused"), (404, EffectFailed, "refused"), (422, EffectFailed, "refused"), (429, Limited, "untouched"),
        (408, Unavailable, "unknown"), (409, Unavailable, "unknown"), (500, Unavailable, "unknown"), (503, Unavailable, "unknown"),
    ],
)  # fmt: skip
def test_refusals_are_told_apart_and_tell_no_secret(api, status, error, fate):
    """Each status says what became of the call; an API that repeats our key does not get it into an error."""
    [tool] = api().tools("status")
    with pytest.raises(error) as caught:
        call(tool, code=status)
    assert fate_of(caught.value) == fate and str(status) in str(caught.value)
    assert "s3cret" not in str(caught.value) and "***" in str(caught.value)


def test_no_redirect_is_followed_and_no_answer_is_endless(api):
    """The API says nothing about where to go next, nor how much we read."""
    away, large = api(max_bytes=1000).tools("away", "large")
    with pytest.raises(EffectFailed, match=r"redirects to 192\.0\.2\.1"):
        call(away)
    with pytest.raises(EffectFailed, match="more than 1000 bytes"):
        call(large)


def test_a_key_that_is_missing_or_wrong(api, running, monkeypatch):
    """A variable that is not set is named before anything is sent; one that the API refuses is not shown."""
    [tool] = api().tools("text")
    monkeypatch.delenv("SHOP_KEY")
    with pytest.raises(Misused, match="set SHOP_KEY"):
        call(tool)
    assert running[2] == []
    monkeypatch.setenv("SHOP_KEY", "Bearer wrong-and-long")
    with pytest.raises(EffectFailed, match="401") as caught:
        call(tool)
    assert "wrong-and-long" not in str(caught.value)


def test_no_connection_is_no_call(running, monkeypatch):
    """A refused connection left the API untouched: the call may be made again."""
    monkeypatch.setenv("SHOP_KEY", KEY)
    [tool] = OpenApi("shop", running[1], url="http://127.0.0.1:1", secrets={"authorization": "SHOP_KEY"}).tools("text")
    with pytest.raises(Limited) as caught:
        call(tool)
    assert fate_of(caught.value) == "untouched"


OLD = """
openapi: 3.0.3
info: {title: old, version: 2020-01-01}
paths:
  /things/{id}:
    parameters: [{$ref: '#/components/parameters/Id'}]
    get:
      parameters:
        - {name: effect, in: query, schema: {type: string, nullable: true}}
        - {name: tags, in: query, explode: false, schema: {type: array, items: {type: string}}}
        - {name: Authorization, in: header, schema: {type: string}}
      responses: {}
    post:
      operationId: mend
      requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/Thing'}}}}
      responses: {}
components:
  parameters:
    Id: {name: id, in: path, required: true, schema: {type: integer, minimum: 0, exclusiveMinimum: true}}
  schemas:
    Thing:
      type: object
      required: [id, name]
      properties: {id: {type: integer, readOnly: true}, name: {type: string}, inside: {$ref: '#/components/schemas/Thing'}}
"""


def test_older_documents_in_yaml(tmp_path):
    """OpenAPI 3.0: nullable, exclusive bounds by flag, references, recursion, what only answers have; credentials are no arguments."""
    file = tmp_path / "old.yaml"
    file.write_text(OLD)
    get, mend = OpenApi("old", file, url="https://old.example/v1/").tools("get_things_id", "mend")
    assert set(get.parameters["properties"]) == {"id", "query_effect", "tags"}
    assert get.checked({"id": 1, "query_effect": None, "tags": ["a"]})
    with pytest.raises(Invalid, match="id"):
        get.checked({"id": 0})
    assert mend.checked({"id": 1, "body": {"name": "a", "inside": {"name": "b"}}})
    with pytest.raises(Invalid, match="name"):
        mend.checked({"id": 1, "body": {"name": "a", "inside": {}}})
    url, query, _, _ = get.function._request({"id": 1, "tags": ["a", "b"]})
    assert (url, query) == ("https://old.example/v1/things/1", [("tags", "a,b")])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda document: document.update(openapi="2.0"), "no OpenAPI 3"),
        (lambda document: document["components"]["schemas"].update(Thing={"$ref": "http://192.0.2.1/x.json"}), "leads out"),
        (lambda document: document["components"]["schemas"].update(Thing={"$ref": "file:///etc/passwd"}), "leads out"),
        (lambda document: document["components"].pop("schemas"), "no Thing"),
        (lambda document: document["components"].pop("parameters"), "neither a parameter"),
        (lambda document: document["paths"].update({"/../up": {"get": {"operationId": "up"}}}), "leads out"),
        (lambda document: document["paths"].update({"/b": {"get": {"operationId": "mend"}}}), "two operations"),
        (lambda doc: doc["paths"].update({"/b": {"get": {"operationId": "a b"}, "put": {"operationId": "a_b"}}}), "are called a_b"),
        (lambda document: document["paths"].update({"/a/%2e%2e/b": {"get": {"operationId": "up"}}}), "leads out"),
        (lambda document: document["paths"].update({"/a\\..\\b": {"get": {"operationId": "up"}}}), "leads out"),
        (lambda document: document["paths"].update({"/c/{id}": {"get": {}}}), "no parameter of it says what {id}"),
        (lambda document: document["paths"].update({"/c": {"$ref": "other.yaml#/c"}}), "is not followed"),
        (lambda document: document["paths"].update({"/c": {"get": {"parameters": [{"in": "query"}]}}}), "a parameter has no name"),
        (lambda document: document["paths"].update({"/c": {"put": {"requestBody": {"content": [1]}}}}), "where an object is needed"),
        (lambda document: document.update(paths=[1]), "where an object is needed"),
    ],
)
def test_a_document_that_is_none_is_refused(change, told):
    """Wrong versions, references that lead to files or other hosts, paths that leave the API: told, and never followed."""
    document = yaml.safe_load(OLD)
    change(document)
    with pytest.raises(Misused, match=told):
        OpenApi("old", document, url="https://old.example").tools()


@pytest.mark.parametrize("url", ["ftp://x", "https://", "https://user:pw@x", "https://x?y=1", "x", "https://{host}/"])
def test_the_address_is_whole(url):
    """Scheme and host are the application's; credentials stand in secrets."""
    with pytest.raises(Misused, match="shop"):
        OpenApi("shop", yaml.safe_load(OLD), url=url)


def test_schemas_keep_their_examples():
    """What stands in enum, const and default is a value, though it looks like a reference."""
    schema = {"enum": [{"$ref": "http://x"}], "default": {"$ref": "y"}, "properties": {"$ref": {"type": "string"}}}
    assert portable(schema, "x") == schema


def test_operations_without_a_name_get_one_each():
    """Two paths that read alike keep two names, whatever stands beside them; a path item may lie in components."""
    alike = {"/orders/{id}": {"get": {"parameters": [{"name": "id", "in": "path", "schema": {}}]}}, "/orders/id": {"get": {}}}
    shared = {"/shared": {"$ref": "#/components/pathItems/shared"}}
    items = {"pathItems": {"shared": {"put": {"operationId": "share"}}}}
    one, other = (
        OpenApi("shop", {"openapi": "3.1.0", "paths": paths, "components": items}, url="https://shop.example")
        for paths in ({**alike, **shared}, dict(reversed([*alike.items(), ("/lone", {"get": {}})])))
    )
    names = {tool.name for tool in one.tools()}
    assert len(names) == 3 and "shop/share" in names
    assert names - {"shop/share"} == {tool.name for tool in other.tools()} - {"shop/get_lone"}
    assert {tool.scope for tool in one.tools()} == {f"openapi:{name}" for name in names}


def test_schemas_that_many_operations_share_are_read_once(monkeypatch):
    """A document of hundreds of operations that lead to hundreds of schemas costs each schema once, not once an operation."""
    many, read = 200, []
    monkeypatch.setattr("headwater.agents.openapi.written", lambda schema: read.append(1) or schema)
    place = "#/components/schemas/S{}"
    schemas = {f"S{n}": {"properties": {"next": {"$ref": place.format((n + 1) % many)}}} for n in range(many)}
    body = {"content": {"application/json": {"schema": {"$ref": place.format(0)}}}}
    paths = {f"/a{n}": {"put": {"operationId": f"put{n}", "requestBody": body}} for n in range(many)}
    tools = OpenApi("huge", {"openapi": "3.0.3", "paths": paths, "components": {"schemas": schemas}}, url="https://huge.example").tools()
    assert [len(tool.parameters["$defs"]) for tool in tools] == [many] * many
    assert len(read) == 2 * many  # each schema, and each body
