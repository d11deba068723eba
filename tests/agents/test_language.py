"""by_model: a language model with tools, over the wire from a local endpoint, deciding as any agent does."""

import asyncio
import json
from types import SimpleNamespace
from typing import Literal

import pytest
from pydantic import BaseModel

from headwater.agents.agent import Publish, agent
from headwater.agents.authorise import Ruling, authorise
from headwater.agents.context import Context, Ports
from headwater.agents.decide import decide
from headwater.agents.endpoint import Calls, Fails, Garbled, ModelEndpoint
from headwater.agents.language import by_model
from headwater.agents.model import ModelChooser, model_from
from headwater.agents.openai_form import Said
from headwater.agents.testing import MemoryHit, MemorySearch, ScriptedModel, activation
from headwater.agents.tool import Call, tool
from headwater.agents.trail import Trail
from headwater.enrichers.testing import HashEmbedder
from headwater.lineage.errors import Misused
from headwater.lineage.topic import Topic


class Plan(BaseModel):
    response: Literal["hold", "watch"]


PLANS = Topic("plans", Plan)
RULE = SimpleNamespace(name="cancellations")
HITS = [
    MemoryHit(id="p", document="files/snow.md", text="hold when it snows"),
    MemoryHit(id="q", document="files/x.md", text="runway open"),
]
SURE = {"choice": {"response": "hold"}, "confidence": 0.9, "rationale": "It snows.", "evidence": ["p"]}


@tool(kind="read")
async def weather(airport: str) -> dict:
    """The weather at an airport now."""
    if airport == "???":
        raise LookupError("no such airport")
    return {"airport": airport, "sky": "snow"}


@tool()
async def announce(text: str) -> None:
    """Tell the passengers."""


def decided(endpoint, *, tools=(weather, announce), chooser=None, policy=authorise, **options):
    function = by_model("recover", Plan, "Decide for the airport.", **{"model": endpoint and endpoint.model(), "publish": PLANS, **options})
    made = agent(wakes_on=[RULE], publishes=[PLANS], tools=list(tools), attempts=1, act_above=0.5)(function)
    ports = Ports(MemorySearch(HITS), chooser or model_from(None, HashEmbedder()), clock=lambda: 7, broker="B", authorise=policy)
    return asyncio.run(decide(made, activation(key="JFK"), ports))


def of(found, kind):
    return [record.data for record in found.records if record.kind == kind]


def test_a_model_decides_with_tools_on_the_record():
    """It sees situation and evidence, calls a tool that reads, and chooses; each step is authorised and recorded, the tokens added up."""
    with ModelEndpoint(Calls("weather", airport="JFK"), SURE) as endpoint:
        found = decided(endpoint, evidence="snow at {key}", settings={"temperature": 0.1, "max_tokens": 300})
        first, second = endpoint.asked
    assert (found.state, found.choice, found.confidence) == ("acted", {"response": "hold"}, 0.9)
    assert found.evidence == ("p",) and [(one.topic, one.key) for one in found.effects] == [("plans", "JFK")]
    assert "hold when it snows" in json.dumps(first) and first["temperature"] == 0.1 and '"sky' in json.dumps(second).replace("\\", "")
    [called] = of(found, "tool")
    assert (called["tool"], called["answer"]) == ("weather", {"airport": "JFK", "sky": "snow"})
    assert ("call", "weather", True) in [(one["action"], one["resource"], one["allowed"]) for one in of(found, "ruling")]
    [asked] = of(found, "model")
    assert asked["instructions"] == "Decide for the airport." and asked["parameters"] == {"temperature": 0.1, "max_tokens": 300}
    assert asked["tokens"] == {"input": 20, "output": 10} and asked["requests"] == 2 and len(asked["turns"]) == 2
    assert found.cost["input_tokens"] == 20 and "hold when it snows" in asked["prompt"]


def test_what_acts_is_proposed_and_not_done():
    """A tool that acts is never called while deciding: what the model asks of it is kept, once, for after the decision."""
    again = Calls("announce", text="We hold.").and_("announce", text="We hold.")
    with ModelEndpoint(again, SURE) as endpoint:
        function = by_model("recover", Plan, model=endpoint.model(), publish=PLANS)
        made = agent(wakes_on=[RULE], publishes=[PLANS], tools=[announce])(function)
        trail = Trail("recover", "D", "a", lambda: 7)
        ports = Ports(MemorySearch(HITS), ScriptedModel("x"), clock=lambda: 7, broker="B")
        decision = asyncio.run(function(activation(key="JFK"), Context(made, activation(key="JFK"), ports, trail)))
    assert decision.effects == (Publish(PLANS, Plan(response="hold"), key="JFK"), Call(announce, {"text": "We hold."}))
    assert [record.data["proposed"] for record in trail.records if record.kind == "model"] == [
        [{"tool": "announce", "arguments": {"text": "We hold."}}]
    ]
    assert "tool" not in {record.kind for record in trail.records}


def test_what_was_proposed_goes_out_with_the_decision():
    """The journal's decision carries the call beside the event, in order, each allowed by a ruling."""
    with ModelEndpoint(Calls("announce", text="We hold."), SURE) as endpoint:
        found = decided(endpoint)
    assert found.state == "acted" and [effect.topic for effect in found.effects] == ["plans"]
    assert [(call.ordinal, call.tool, call.arguments) for call in found.calls] == [(1, "announce", {"text": "We hold."})]
    assert ("call", "announce", True) in [(one["action"], one["resource"], one["allowed"]) for one in of(found, "ruling")]


def test_a_model_searches_by_itself():
    """A search that the model asks for is a retrieval like any other, and what it finds may be cited."""
    with ModelEndpoint(Calls("search_context", query="runway open"), {**SURE, "evidence": ["q", "made up"]}) as endpoint:
        found = decided(endpoint)
    assert found.evidence == ("q",) and [one["query"] for one in of(found, "retrieval")] == ["runway open"]
    with ModelEndpoint(SURE) as endpoint:
        decided(endpoint, finds=0, tools=())
        assert not endpoint.asked[0].get("tools") or "search_context" not in json.dumps(endpoint.asked[0]["tools"])


def test_wrong_arguments_come_back_to_the_model():
    """A call that does not fit never reaches the tool; the model is told what is wrong and may mend it; a failing tool is told as well."""
    replies = [Calls("weather", place="JFK"), Calls("weather", airport="???"), SURE]
    with ModelEndpoint(*replies) as endpoint:
        found = decided(endpoint)
        told = [json.dumps(asked) for asked in endpoint.asked]
    assert found.state == "acted" and "place" in told[1] and "no such airport" in told[2]
    assert [one["error"] for one in of(found, "tool")] == ["LookupError: no such airport"]


def test_a_policy_ends_the_conversation():
    """Law 7: what a policy refuses is not told to the model as a failure to get around, the decision goes to a person as forbidden."""

    def closed(principal, action, resource, context):
        return Ruling(False, "night", "no calls at night") if action == "call" else authorise(principal, action, resource, context)

    with ModelEndpoint(Calls("weather", airport="JFK"), SURE) as endpoint:
        found = decided(endpoint, policy=closed)
        assert len(endpoint.asked) == 1
    assert found.state == "waiting" and "no calls at night" in found.error
    assert found.cost["input_tokens"] == 10


@pytest.mark.parametrize(
    ("replies", "options", "told"),
    [
        ([Calls("weather", airport="JFK")], {"requests": 3}, "request_limit"),
        ([Calls("weather", airport="JFK")], {"tool_calls": 2, "requests": None}, "tool_calls_limit"),
        ([Said("I think so.", read=600, wrote=600)], {"tokens": 1000}, "total_tokens_limit"),
        ([Fails(503)], {}, "does not answer"),
        ([Garbled(b"{}")], {}, "no answer"),
        (["I would hold."], {}, "no answer"),
    ],
)
def test_a_conversation_that_goes_nowhere_ends(replies, options, told):
    """Bounds on requests, calls and tokens, errors, nonsense: the decision goes to a person, with what it cost and what was said."""
    with ModelEndpoint(*replies) as endpoint:
        found = decided(endpoint, **options)
    assert found.state == "waiting" and told in found.error
    [asked] = of(found, "model")
    assert asked["error"] and asked["prompt"]
    if not isinstance(replies[0], (Fails, Garbled)):
        assert found.cost["input_tokens"] >= 10 and asked["turns"]


def test_names_that_providers_refuse_are_made_plain():
    """Tools of MCP servers and OpenAPI documents have longer names; the model sees plain ones, and none twice."""

    async def answer(x: int) -> int:
        return x

    tools = [tool(kind="read")(answer)]
    named = [type(tools[0])(name, answer, "read") for name in ("mcp:a/b", "mcp:a:b", "search_context")]
    with ModelEndpoint(Calls("mcp_a_b_2", x=3), SURE) as endpoint:
        found = decided(endpoint, tools=named)
        offered = [each["function"]["name"] for each in endpoint.asked[0]["tools"]]
    assert {"mcp_a_b", "mcp_a_b_2", "search_context", "search_context_2"} <= set(offered) and len(set(offered)) == len(offered)
    assert [one["tool"] for one in of(found, "tool")] == ["mcp:a:b"]


def test_the_settings_name_the_model_where_the_agent_does_not():
    """With model=None the model of HEADWATER_MODEL is asked; the bundled one chooses from the evidence, calling nothing."""
    local = decided(None, model=None, evidence="snow")
    assert local.state in ("acted", "waiting") and of(local, "model")[0]["model"] == "local" and local.options
    with ModelEndpoint(SURE) as endpoint:
        hosted = decided(None, model=None, chooser=ModelChooser(endpoint.model()))
    assert hosted.state == "acted" and of(hosted, "model")[0]["model"] == "scripted"


def test_a_model_by_name(monkeypatch):
    """The provider's variables lead to it, in every event loop anew; a name that is none is refused at declaration."""
    with ModelEndpoint(SURE) as endpoint:
        monkeypatch.setenv("OLLAMA_BASE_URL", endpoint.url)
        function = by_model("recover", Plan, model="ollama:any", publish=PLANS)
        made = agent(wakes_on=[RULE], publishes=[PLANS], attempts=1)(function)
        ports = Ports(MemorySearch(HITS), model_from(None, HashEmbedder()), clock=lambda: 7, broker="B")
        states = [asyncio.run(decide(made, activation(key=key), ports)).state for key in ("JFK", "EWR")]
        assert states == ["acted", "acted"] and {asked["model"] for asked in endpoint.asked} == {"any"}
    with pytest.raises(Misused, match="provider"):
        by_model("recover", Plan, model="gpt-5")
    assert made.digest != agent(wakes_on=[RULE])(by_model("recover", Plan, "Be bold.", model="ollama:any", publish=PLANS)).digest
