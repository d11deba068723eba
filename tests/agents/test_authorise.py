from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.agents.agent import Agent, Decision
from headwater.agents.authorise import INDEX, Principal, authorise, principal_of
from headwater.agents.testing import scripted
from headwater.lineage.topic import Topic


class Plan(BaseModel):
    response: str


RULE = SimpleNamespace(name="cancellations")
PLANS = Topic("plans", Plan)
AGENT = Agent("recover", scripted(Decision(None)), (RULE,), publishes=(PLANS,), version="3")


def test_declared_is_allowed():
    """What the application file declares is allowed, and the ruling says by which policy."""
    ruling = authorise(principal_of(AGENT), "publish", "plans", {})
    assert ruling.allowed and ruling.policy == "declared"
    assert authorise(principal_of(AGENT), "decide", "cancellations", {}).allowed
    assert authorise(principal_of(AGENT), "retrieve", INDEX, {}).allowed


def test_refusal_says_who_what_and_what_instead():
    """A refusal names the agent, the resource and what it may do."""
    ruling = authorise(principal_of(AGENT), "publish", "crews", {})
    assert not ruling.allowed
    assert "agent/recover@3" in ruling.reason and "crews" in ruling.reason and "plans" in ruling.reason


@given(st.frozensets(st.tuples(st.text(max_size=3), st.text(max_size=3))), st.text(max_size=3), st.text(max_size=3))
def test_deny_by_default(grants, action, resource):
    """Law 7: allowed if and only if granted."""
    assert authorise(Principal("anyone", grants), action, resource, {}).allowed == ((action, resource) in grants)
