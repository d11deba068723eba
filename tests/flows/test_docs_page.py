"""The page about the HTTP interface."""

from typing import Annotated, Literal

from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from headwater.flows.docs_page import groups, mount


class Wish(BaseModel):
    text: str = Field(description="what <b>for</b>")
    many: int = 5
    kinds: list[str] = []


def application() -> FastAPI:
    app = FastAPI(title="lake", docs_url=None)

    @app.post("/v1/wishes/{id}", tags=["wishes"], summary="Wish")
    def wish(id: str, body: Wish) -> None:
        """As often as you like."""

    @app.get("/v1/wishes", tags=["wishes"])
    def listed(state: Literal["open", "met"] | None = None, limit: Annotated[int, Query(ge=1)] = 50) -> None: ...

    mount(app)
    return app


def test_every_parameter_is_told_with_what_it_takes():
    """Path, query and body: name, kind, default, whether it must be there."""
    [wish, listed] = groups(application().openapi())["wishes"]
    assert (wish.verb, wish.path, wish.summary, wish.about) == ("POST", "/v1/wishes/{id}", "As often as you like.", "")
    assert [tuple(field)[:4] for field in wish.fields] == [
        ("id", "path", "string", True), ("text", "body", "string", True), ("many", "body", "integer = 5", False),
        ("kinds", "body", "list of string", False),
    ]  # fmt: skip
    assert [(field.name, field.kind) for field in listed.fields] == [("state", "open | met"), ("limit", "integer = 50")]


def test_the_page_needs_nothing_from_elsewhere():
    """No script, no other server, texts escaped: it is the same page without a network."""
    answer = TestClient(application()).get("/docs")
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text and "//" not in answer.text.replace("http://testserver", "")
    assert "what &lt;b&gt;for&lt;/b&gt;" in answer.text and "/v1/wishes/{id}" in answer.text
