import asyncio
import subprocess
import sys
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import infer_model
from pydantic_ai.models.function import FunctionModel

from headwater.agents.context import Evidence
from headwater.agents.model import LocalModel, ModelChooser, model_from
from headwater.enrichers.testing import HashEmbedder
from headwater.lineage.errors import AgentFailed, Misused, Unavailable

CASE = "7 of the 25 flights were cancelled."


class Plan(BaseModel):
    response: Literal["hold departures", "rebook passengers"]


class Level(Enum):
    low = "low"
    high = "high"


class Full(BaseModel):
    """What to do."""

    response: (
        Annotated[Literal["hold departures"], Field(description="Flights are late.")]
        | Annotated[Literal["rebook passengers"], Field(description="Flights were cancelled.")]
    )
    level: Level
    urgent: bool = Field(description="Flights were cancelled")


def evidence(*texts):
    return [Evidence(f"c{n}", f"files/{n}.md", 1, 0, "When", text, 0.5) for n, text in enumerate(texts)]


RULES = evidence("Rebook passengers when a fifth or more of the flights are cancelled.", "It snows.")


def local():
    return model_from(None, HashEmbedder(256))


def choose(chooser, output, situation=CASE, shown=RULES):
    return asyncio.run(chooser.choose(output, situation, shown))


def test_a_local_choice_is_accounted_for():
    """Every option with its probability, most probable first; the evidence; the choice without each; what spoke for it."""
    chosen = choose(local(), Plan)
    decision = chosen.decision
    assert decision.choice == Plan(response="rebook passengers")
    assert [option.name for option in decision.options] == ["rebook passengers", "hold departures"]
    assert sum(option.confidence for option in decision.options) == pytest.approx(1, abs=1e-5)
    assert decision.confidence == decision.options[0].confidence
    assert decision.evidence == ("c0", "c1") and set(decision.without) == {"c0", "c1"}
    assert decision.without["c0"].confidence < decision.confidence
    assert "files/0.md When" in decision.rationale and "fifth" in decision.rationale
    assert (chosen.model, chosen.answer) == ("local", {"response": "rebook passengers"}) and CASE in chosen.prompt


def test_equal_questions_have_equal_answers():
    """The same question twice, on models with and without memory of earlier texts, is answered alike to the last digit."""
    chooser = local()
    assert choose(chooser, Plan) == choose(chooser, Plan) == choose(local(), Plan)


def test_texts_are_embedded_once():
    """What was embedded for one decision is not embedded for the next."""
    embedder = HashEmbedder()
    chooser = model_from("local", embedder)
    choose(chooser, Plan)
    before = len(embedder.embedded)
    choose(chooser, Plan)
    assert len(embedder.embedded) == before == len(set(embedder.embedded))


def test_several_fields_are_several_questions():
    """Literals, enums and booleans are answered; the least sure field gives the confidence, options name their field."""
    decision = choose(local(), Full).decision
    assert decision.choice.response == "rebook passengers" and decision.choice.urgent is True and decision.choice.level in Level
    names = [option.name for option in decision.options]
    assert names[:2] == ["response: rebook passengers", "response: hold departures"] and "urgent: yes" in names
    best = [max(option.confidence for option in decision.options if option.name.startswith(field)) for field in Full.model_fields]
    assert len(best) == 3 and decision.confidence == min(best)


def test_a_choice_may_be_a_bare_literal():
    """A type without fields is one question."""
    assert choose(local(), Literal["hold departures", "rebook passengers"]).decision.choice == "rebook passengers"


def test_concurrent_choices_do_not_mix():
    """Questions asked at once get the answers they get alone."""
    cases = [CASE, "It is late, departures wait.", "12 of the 20 flights were cancelled."] * 3

    async def together():
        chooser = local()
        return await asyncio.gather(*(chooser.choose(Plan, case, RULES) for case in cases))

    assert asyncio.run(together()) == [choose(local(), Plan, case) for case in cases]


def test_what_cannot_be_chosen_is_said():
    """A model with a free text is no typed choice: Misused, naming it."""

    class Letter(BaseModel):
        text: str

    with pytest.raises(Misused, match="Letter"):
        choose(local(), Letter)


def speaking(**fields):
    """A language model that answers with these fields."""

    def answer(messages, info):
        return ModelResponse([ToolCallPart(info.output_tools[0].name, fields)])

    return ModelChooser(FunctionModel(answer))


def test_a_language_model_gives_its_reasons():
    """Of a language model the options, confidence, reasons and cited evidence are its own; ids it was not shown are left out."""
    chooser = speaking(
        choice={"response": "hold departures"}, confidence=0.6, rationale="It snows.", evidence=["c1", "made up"],
        options=[{"name": "hold departures", "confidence": 0.6}, {"name": "rebook passengers", "confidence": 0.4}],
    )  # fmt: skip
    decision = choose(chooser, Plan).decision
    assert decision.choice == Plan(response="hold departures") and decision.confidence == 0.6 and decision.rationale == "It snows."
    assert decision.evidence == ("c1",) and [option.confidence for option in decision.options] == [0.6, 0.4]
    assert decision.cost["input_tokens"] > 0 and decision.cost["output_tokens"] > 0


def test_a_language_model_may_say_little():
    """Without options the choice with its confidence is the only one; without citations all evidence counts."""
    decision = choose(speaking(choice={"response": "hold departures"}, confidence=0.9), Plan).decision
    assert [(option.name, option.confidence) for option in decision.options] == [("hold departures", 0.9)]
    assert decision.evidence == ("c0", "c1")


def test_errors_of_models_are_ours():
    """A provider that does not answer is Unavailable, an answer that is none AgentFailed."""

    def down(messages, info):
        raise ModelHTTPError(503, "some-model", "overloaded")

    with pytest.raises(Unavailable, match="overloaded"):
        choose(ModelChooser(FunctionModel(down)), Plan)
    with pytest.raises(AgentFailed, match="Plan"):
        choose(speaking(choice={"response": "panic"}, confidence=0.9), Plan)


@pytest.mark.parametrize(
    ("setting", "says"), [("gpt-5", "provider and model"), ("nobody:knows", "nobody"), ("absent:x", r"headwater\[hosted\]")]
)
def test_a_model_that_cannot_be_had(setting, says, monkeypatch):
    """A setting names what is wrong and what to do: the form, the unknown provider, the extra to install."""

    def infer(name):
        if name == "absent:x":
            raise ImportError("Please install `absent`")
        return infer_model(name)

    monkeypatch.setattr("headwater.agents.model.infer_model", infer)
    with pytest.raises(Misused, match=says):
        model_from(setting, HashEmbedder())


def test_local_is_the_default():
    """None and `local` are the bundled model."""
    assert isinstance(model_from(None, HashEmbedder()).model, LocalModel)
    assert isinstance(model_from("local", HashEmbedder()).model, LocalModel)


def test_declaring_agents_loads_no_model():
    """The context and the runner load neither pydantic-ai nor torch: commands answer at once."""
    code = "import headwater.agents.context, headwater.agents.decider, sys; assert not {'pydantic_ai', 'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
