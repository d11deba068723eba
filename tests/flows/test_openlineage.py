"""OpenLineage: every event is read by the standard's own client, counts are what flows told, and a dead catalogue holds nobody."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openlineage.client.facet_v2 import (
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    processing_engine_run,
)
from openlineage.client.generated.base import EventType, InputDataset, Job, OutputDataset, Run, RunEvent
from openlineage.client.serde import Serde

from headwater.flows.openlineage import Catalogue, ToFile, ToHttp, receiver_of, topic_of
from headwater.flows.settings import Settings, load
from headwater.lineage.errors import Misused
from headwater.lineage.event import Position
from headwater.lineage.record import fact, run_of
from headwater.lineage.run_event import Dataset, Flow, run_event

FACETS = {
    "processing_engine": processing_engine_run.ProcessingEngineRunFacet,
    "errorMessage": error_message_run.ErrorMessageRunFacet,
    "jobType": job_type_job.JobTypeJobFacet,
    "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
}


def facets(given):
    """Built by the client's classes; what they do not know is a TypeError."""
    own = {name: {key: value for key, value in each.items() if key[0] != "_"} for name, each in given.items()}
    return {name: FACETS[name](producer=given[name]["_producer"], **fields) for name, fields in own.items()}


def read(event):
    """The event as the standard's client has it, which checks ids, times and addresses; and nothing may be lost or renamed on the way."""
    run, job = event["run"], event["job"]
    official = RunEvent(
        eventType=EventType(event["eventType"]), eventTime=event["eventTime"], producer=event["producer"],
        run=Run(run["runId"], facets(run["facets"])), job=Job(job["namespace"], job["name"], facets(job["facets"])),
        inputs=[InputDataset(each["namespace"], each["name"], inputFacets=facets(each["inputFacets"])) for each in event["inputs"]],
        outputs=[OutputDataset(each["namespace"], each["name"], outputFacets=facets(each["outputFacets"])) for each in event["outputs"]],
    )  # fmt: skip
    told = Serde.to_dict(official)
    for each in (*told["inputs"], *told["outputs"]):
        assert not each.pop("facets", None)
    assert told == event
    return official


counts = st.dictionaries(st.builds(Dataset, st.just("kafka://there:9092"), st.text()), st.integers(0, 2**53), max_size=4)


@given(st.sampled_from(["START", "RUNNING", "COMPLETE", "FAIL"]), st.integers(0, 4 * 10**15), counts, counts, st.text(), st.text())
def test_every_event_is_one_of_the_standard(kind, at, reads, writes, app, error):
    """Whatever names and counts: the client's own classes give back the same document, schema addresses included."""
    event = run_event(kind, Flow(app, "index", "r", "0.1"), at, reads, writes, error)
    assert read(json.loads(json.dumps(event))).run.runId == run_event("START", Flow(app, "index", "r", "0.1"), 0, {}, {})["run"]["runId"]


def catalogue(receiver, every_s=1000.0):
    return Catalogue(
        receiver, "lake", "r1", "kafka://b:1", Dataset("qdrant://i", "lake"), Dataset("duckdb", "l.duckdb"), lambda: 1, every_s=every_s
    )


def told_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_begins_goes_on_and_ends_with_what_was_counted(tmp_path):
    """START, and at the end COMPLETE with the rows that each dataset was read and written."""
    path = tmp_path / "new" / "runs.jsonl"
    telling = catalogue(ToFile(path))
    heard = telling.begun("index", ["levels"])
    for first in range(3):
        heard([run_of("consumed", "index", Position("b", "levels", 0, 10 * first), 10 * first + 10, 10, 1)])
    ends = ("indexed", "stale", "deleted")
    heard([fact("document", "index", "upsert", "d", logged=1, outcome=outcome, ordinal=outcome) for outcome in ends])
    telling.close()
    events = told_of(path)
    assert {each["eventType"] for each in events} == {"START", "COMPLETE"} and len({each["run"]["runId"] for each in events}) == 1
    end = read(events[-1])
    assert end.eventType == EventType.COMPLETE
    assert [(each.name, each.inputFacets["inputStatistics"].rowCount) for each in end.inputs] == [("levels", 30)]
    assert [(each.namespace, each.outputFacets["outputStatistics"].rowCount) for each in end.outputs] == [("qdrant://i", 2)]


@given(st.lists(st.tuples(st.sampled_from(["warn", "plan", "call"]), st.integers(1, 9)), max_size=12))
def test_an_input_counts_each_row_once_however_many_agents_read_it(steps):
    """The rows that a run of `decide` read of a topic are the rows up to where its fastest agent came, not those times its agents."""
    got, at = [], {}
    telling = catalogue(got.append)
    heard = telling.begun("decide", ["headwater.activations"])
    for agent, many in steps:
        first = at.get(agent, 0)
        place = Position("b", "headwater.activations", 0, first)
        heard([run_of("consumed", f"decide/{agent}", place, first + many, many, 1)])
        at[agent] = first + many
    telling.close()
    assert got[-1]["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == max(at.values(), default=0)


def test_a_flow_that_fails_says_so_and_only_that_one(tmp_path):
    """FAIL with the first error; the other flow of the process completes."""
    telling = catalogue(ToFile(tmp_path / "runs.jsonl"))
    telling.begun("decide", [])
    telling.begun("detect", [])
    telling.failed("decide/warn", ValueError("no"))
    telling.failed("decide", OSError("later"))
    telling.close()
    ends = {each["job"]["name"]: each for each in told_of(tmp_path / "runs.jsonl") if each["eventType"] in ("FAIL", "COMPLETE")}
    assert ends["detect"]["eventType"] == "COMPLETE" and "errorMessage" not in ends["detect"]["run"]["facets"]
    assert read(ends["decide"]).run.facets["errorMessage"].message == "ValueError: no"


def test_what_is_decided_and_published_is_counted_by_topic(tmp_path):
    """Activations, decisions, reviews, and each topic that an effect was published to; a call is none."""
    telling = catalogue(ToFile(tmp_path / "runs.jsonl"))
    heard = telling.begun("decide", [])
    effects = [{"effect": "publish", "target": "alarms"}, {"effect": "publish", "target": "alarms"}, {"effect": "call", "target": "siren"}]
    heard([fact("effect", "decide/a", "effects", f"e{n}", logged=1, data=data) for n, data in enumerate(effects)])
    heard([fact("decision", "decide/a", "decide", "d", logged=1), fact("review", "decide/a", "decide", "r", logged=1)])
    telling.close()
    outputs = told_of(tmp_path / "runs.jsonl")[-1]["outputs"]
    written = {each["name"]: each["outputFacets"]["outputStatistics"]["rowCount"] for each in outputs}
    assert written == {"alarms": 2, "headwater.decisions": 1, "headwater.reviews": 1}


def test_a_catalogue_that_is_away_holds_nobody_and_the_next_event_holds_all_counts(tmp_path):
    """Refused events raise nothing where flows tell, and are made good by the next."""
    got, away = [], threading.Event()
    away.set()

    def receive(event):
        if away.is_set():
            raise ConnectionRefusedError("nobody there")
        got.append(event)

    telling = catalogue(receive)
    heard = telling.begun("index", ["levels"])
    heard([run_of("consumed", "index", Position("b", "levels", 0, 0), 7, 7, 1)])
    away.clear()
    telling.close()
    assert got[-1]["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 7


def test_a_stop_does_not_wait_for_each_flow_in_turn():
    """Where the catalogue is away at the end too, one refusal is enough."""
    asked = []

    def receive(event):
        asked.append(event["eventType"])
        raise ConnectionRefusedError("nobody there")

    telling = catalogue(receive)
    for flow in ("index", "detect", "decide"):
        telling.begun(flow, [])
    telling.close()
    assert sum(kind == "COMPLETE" for kind in asked) == 1


def test_by_http_it_goes_to_the_usual_path_with_its_key():
    """An address without path gets `/api/v1/lineage`; the key is a bearer token; a refusal is an error that is told."""
    asked, status = [], [201]

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.append((self.path, self.headers["authorization"], json.loads(body)["eventType"]))
            self.send_response(status[0])
            self.end_headers()

        def log_message(self, *told): ...

    server = HTTPServer(("127.0.0.1", 0), Receive)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    event = run_event("START", Flow("lake", "index", "r", "0"), 0, {}, {})
    address = f"http://127.0.0.1:{server.server_port}"
    ToHttp(address, "key")(event)
    ToHttp(f"{address}/own/path", "")(event)
    status[0] = 500
    telling = catalogue(ToHttp(address, "key"))
    telling.begun("index", [])
    telling.close()
    server.shutdown()
    server.server_close()
    assert asked[:2] == [("/api/v1/lineage", "Bearer key", "START"), ("/own/path", None, "START")]
    assert [kind for _, _, kind in asked[2:]] == ["START", "COMPLETE"]


def test_where_it_goes_is_said_in_one_setting():
    """A topic, a file, an address; anything else is refused by name, and so is an address with a password."""
    given = load(environ={"HEADWATER_OPENLINEAGE__URL": "kafka:runs", "HEADWATER_OPENLINEAGE__API_KEY": "abc"}, dotenv=None)
    assert topic_of(given) == "runs" and "abc" not in repr(given) and all("abc" not in each.shown for each in given.origins)
    assert isinstance(receiver_of(Settings(openlineage_url="http://there:5000"), lambda: None), ToHttp)
    for wrong in ("runs.jsonl", "kafka:", "http://me:secret@there"):
        with pytest.raises(Misused, match="HEADWATER_OPENLINEAGE__URL") as refused:
            load(environ={"HEADWATER_OPENLINEAGE__URL": wrong}, dotenv=None)
        assert "secret" not in str(refused.value)
