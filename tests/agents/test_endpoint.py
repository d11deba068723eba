"""The local OpenAI-compatible endpoint, asked by pydantic-ai as a hosted model is."""

import asyncio
import json
import threading
from typing import Literal

import httpx
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UnexpectedModelBehavior

from headwater.agents.context import Evidence
from headwater.agents.endpoint import Calls, Fails, Garbled, Late, ModelEndpoint
from headwater.agents.model import ModelChooser
from headwater.agents.openai_form import Said
from headwater.lineage.errors import AgentFailed, Misused, Unavailable


class Plan(BaseModel):
    response: Literal["hold", "watch"]


ANSWER = {"choice": {"response": "hold"}, "confidence": 0.75, "rationale": "It snows.", "evidence": ["c0"]}
SEEN = [Evidence("c0", "files/0.md", 1, 0, "When", "Hold when it snows.", 0.5)]


def choose(endpoint, **model):
    return asyncio.run(ModelChooser(endpoint.model(**model)).choose(Plan, "It snows.", SEEN))


@pytest.mark.parametrize("responses", [False, True])
def test_a_choice_goes_over_the_wire(responses):
    """By chat completions and by responses alike: a structured answer, its tokens, and what the model was shown."""
    with ModelEndpoint(ANSWER) as endpoint:
        chosen = choose(endpoint, responses=responses)
        assert (chosen.decision.choice, chosen.decision.confidence) == (Plan(response="hold"), 0.75)
        assert chosen.decision.evidence == ("c0",) and chosen.tokens == {"input": 10, "output": 5}
        assert "Hold when it snows." in json.dumps(endpoint.asked)


@pytest.mark.parametrize("responses", [False, True])
def test_tools_are_called_as_told(responses):
    """A scripted model calls tools, several in a turn, sees what they answered, and then speaks."""
    called = []

    def weather(airport: str) -> str:
        called.append(airport)
        return f"snow at {airport}"

    with ModelEndpoint(Calls("weather", airport="JFK").and_("weather", airport="EWR"), Said("It snows.", read=7, wrote=3)) as endpoint:
        result = asyncio.run(Agent(endpoint.model(responses=responses), tools=[weather]).run("How is the weather?"))
        assert result.output == "It snows." and sorted(called) == ["EWR", "JFK"]
        assert (result.usage.input_tokens, result.usage.output_tokens) == (17, 8)
        assert "snow at JFK" in json.dumps(endpoint.asked[1])


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Fails(429, headers={"retry-after": "1"}), Unavailable),
        (Fails(500), Unavailable),
        (Fails(0), Unavailable),
        (Garbled(), Unavailable),
        (Garbled(b"{}"), AgentFailed),
        ("no structured answer", AgentFailed),
        ({"choice": {"response": "dance"}, "confidence": 1}, AgentFailed),
        (Calls.with_text("final_result", "{broken"), AgentFailed),
    ],
)
def test_what_a_model_gets_wrong_is_told_apart(reply, error):
    """Errors, cut connections, garbled bytes, words instead of structure, and a choice that is none: each ends in one clear error."""
    with ModelEndpoint(reply) as endpoint, pytest.raises(error):
        choose(endpoint)


def test_a_model_is_as_late_as_the_test_wants():
    """A late reply waits for the test's sign, while another request is answered at once; one that waits too long is given up."""
    sign = threading.Event()

    async def ask(endpoint):
        chooser = ModelChooser(endpoint.model())
        late = asyncio.create_task(chooser.choose(Plan, "It snows.", SEEN))
        while not endpoint.asked:
            await asyncio.sleep(0.001)
        soon = await chooser.choose(Plan, "It rains.", SEEN)
        assert not late.done()
        sign.set()
        return soon, await late

    with ModelEndpoint(Late(ANSWER, sign), {**ANSWER, "choice": {"response": "watch"}}) as endpoint:
        soon, late = asyncio.run(ask(endpoint))
    assert (soon.decision.choice.response, late.decision.choice.response) == ("watch", "hold")


def test_a_reply_may_depend_on_the_request():
    """A function sees the request's JSON; replies go in order, the last one stays."""

    async def ask(agent):
        return [(await agent.run(word)).output for word in ("a", "b", "c")]

    with ModelEndpoint("first", lambda asked: asked["messages"][-1]["content"].upper()) as endpoint:
        said = asyncio.run(ask(Agent(endpoint.model())))
    assert said == ["first", "B", "C"]


def test_it_speaks_plain_http():
    """Any client may ask: the models are listed; what it does not do is refused with a hint, and it forgets no request."""
    with ModelEndpoint("yes") as endpoint, httpx.Client(base_url=endpoint.url, timeout=60) as client:
        assert client.get("/models").json()["data"][0]["id"] == "scripted"
        answer = client.post("/chat/completions", json={"model": "x", "messages": []}).json()
        assert answer["choices"][0]["message"]["content"] == "yes"
        assert client.post("/embeddings", json={}).status_code == 404
        assert client.post("/chat/completions", json={"stream": True}).status_code == 400
        assert client.post("/chat/completions", content=b"{").status_code == 400
        assert len(endpoint.asked) == 1
    with pytest.raises(Misused, match="at least one"):
        ModelEndpoint()


def test_errors_of_a_hosted_model_keep_their_status():
    """The status that the script gives is the one a client sees."""
    with ModelEndpoint(Fails(418, "I am a teapot")) as endpoint, pytest.raises(ModelHTTPError) as caught:
        asyncio.run(Agent(endpoint.model()).run("x"))
    assert caught.value.status_code == 418
    assert issubclass(ModelHTTPError, ModelAPIError) and not issubclass(UnexpectedModelBehavior, ModelAPIError)
