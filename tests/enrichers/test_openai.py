"""OpenAIEmbedder against a local endpoint: rows in order and of length 1, and refusals told apart."""

import json

import numpy as np
import pytest

from headwater.enrichers.openai import OpenAIEmbedder
from headwater.lineage.errors import IndexFailed, Unavailable


def vectors(method, path, body, headers):
    """An endpoint that answers in an order of its own; a text's vector is its length and 1, twice as long as it should be."""
    assert (method, path) == ("POST", "/v1/embeddings")
    texts = json.loads(body)["input"]
    data = [{"index": n, "embedding": [2.0 * len(text), 2.0]} for n, text in enumerate(texts)]
    return 200, json.dumps({"data": data[::-1]}).encode(), {}


def embedder(service, **options):
    return OpenAIEmbedder("small", size=2, url=f"{service.url}/v1", **{"key": None, **options})


def test_rows_stand_in_the_order_of_texts(service):
    """Whatever the batches and the order of answers, each text has its row, of length 1."""
    service.answer = vectors
    texts = ["x" * n for n in range(1, 24)]
    rows = embedder(service, batch=5).embed(texts)
    assert len(service.asked) == 5
    assert rows.dtype == np.float32 and np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert np.allclose(rows[:, 0] / rows[:, 1], range(1, 24))
    assert embedder(service).embed([]).shape == (0, 2)


@pytest.mark.parametrize(("status", "kind"), [
    (429, Unavailable), (500, Unavailable), (503, Unavailable), (401, Unavailable), (404, Unavailable),
    (400, IndexFailed), (413, IndexFailed), (422, IndexFailed),
])  # fmt: skip
def test_what_passes_is_waited_for_and_a_text_at_fault_is_refused(service, status, kind):
    """Only a refusal that is about the text may cost the document; everything else holds the index until it is mended."""
    service.answer = lambda *told: (status, b"", {})
    with pytest.raises(kind, match=str(status)):
        embedder(service).embed(["text"])


def test_the_key_is_sent_and_never_told(service, monkeypatch):
    """The key is named by its variable; missing, the error says what to set; refused, it is not shown."""
    sent = []
    service.answer = lambda method, path, body, headers: (sent.append(headers["authorization"]), (401, b"", {}))[1]
    one = embedder(service, key="TEST_KEY")
    with pytest.raises(Unavailable, match="set TEST_KEY"):
        one.embed(["text"])
    monkeypatch.setenv("TEST_KEY", "open sesame")
    with pytest.raises(Unavailable, match="check TEST_KEY") as caught:
        one.embed(["text"])
    assert sent == ["Bearer open sesame"] and "sesame" not in str(caught.value)


@pytest.mark.parametrize("body", [
    b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}', b'{"data": [{"index": 0, "embedding": [0, 0]}]}', b"", b"{}",
    b'{"data": [{"index": 0, "embedding": [1, 2, 3]}]}', b'{"data": []}', b'{"data": [{}]}',
])  # fmt: skip
def test_an_answer_that_is_no_such_vectors_is_waited_out(service, body):
    """An endpoint of another kind or another size says nothing about the texts."""
    service.answer = lambda *told: (200, body, {})
    with pytest.raises(Unavailable):
        embedder(service).embed(["text"])


def test_a_dead_endpoint_is_unavailable(service):
    """A refused connection may pass."""
    service.close()
    with pytest.raises(Unavailable, match="does not answer"):
        embedder(service).embed(["text"])
