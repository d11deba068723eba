"""The reference agent's choices with the bundled model, measured against what the procedures allow."""

import asyncio

import pytest

from headwater.agents.activation import Activation
from headwater.agents.context import Context, Ports
from headwater.agents.model import model_from
from headwater.agents.trail import Trail
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.embed import minilm
from headwater.enrichers.freshness import Progress
from headwater.enrichers.index import Indexer
from headwater.enrichers.retrieve import Retriever
from headwater.flows.app import FILES_TOPIC
from headwater.flows.files import file_events
from headwater.flows.nyc import app as nyc
from headwater.flows.nyc.truth import SITUATIONS, judge
from headwater.lineage.decode import Received
from headwater.lineage.event import Position

SUMMER = 1_372_680_000_000_000  # 1 July 2013, noon UTC; the procedures are known since January


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Situation → (response, confidence), as the agent's `plan` gives them with the procedures in a real index."""
    embedder = minilm()
    index = EdgeIndex(tmp_path_factory.mktemp("index"), embedder.size)
    events = file_events(nyc.app.files, nyc.app.root, [], 0)
    files = [
        Received(Position("b", FILES_TOPIC.name, 0, n), event, FILES_TOPIC.decode(event.data), 0) for n, event in enumerate(events)
    ]
    Indexer(index, embedder, nyc.app.document_types, clock=lambda: 0).index(files)
    retriever = Retriever(index, embedder, Progress("b", lambda: 0))
    ports = Ports(retriever, model_from("local", embedder), lambda: 0, "b", indexed=frozenset())

    async def answer(case):
        about = Activation(id="a", rule="situation", key=case.airport, phase="opened", at=SUMMER, value=0.0, episode="a")
        context = Context(nyc.recover, about, ports, Trail("recover", "d", "a", lambda: 0))
        decision = await nyc.plan(context, case.airport, case.text)
        return decision.choice.response, decision.confidence

    yield {case.name: asyncio.run(answer(case)) for case in SITUATIONS}
    index.close()


def test_choices_in_held_out_situations_are_allowed_by_the_procedures(answers):
    """At least 80 % of those never looked at while making the agent, and none disallowed that it would have acted on."""
    judged = judge(answers, act_above=nyc.recover.act_above, held_out=True)
    assert judged.total == 12
    assert len(judged.allowed) >= 0.8 * judged.total, judged.disallowed
    assert judged.disallowed_acted == ()


def test_choices_in_the_other_situations_are_allowed_too(answers):
    """The half that the agent was made with: the same demands."""
    judged = judge(answers, act_above=nyc.recover.act_above, held_out=False)
    assert len(judged.allowed) >= 0.8 * judged.total, judged.disallowed
    assert judged.disallowed_acted == ()


def test_confidence_tells_clear_cases_from_doubtful_ones(answers):
    """Some are sure enough to act on, some go to a person: the threshold lies inside the range of confidences."""
    confidences = [confidence for _, confidence in answers.values()]
    assert min(confidences) < nyc.recover.act_above <= max(confidences)
