"""Benchmarks: what a figure means, and that each bench of a tiny size yields the form that is promised. Never how fast."""

import importlib
import io
import json
import math
import time
from collections import Counter
from types import SimpleNamespace as Some

import pytest
from rich.console import Console

from headwater.enrichers.testing import HashEmbedder
from headwater.flows.bench import command, embed, flown, meters, millions, quality, search, told
from headwater.flows.bench.bed import Bed, Spoiled, demand
from headwater.flows.bench.entry import Bench, Finding, Round, Target
from headwater.flows.bench.judge import documents, ndcg, recall
from headwater.flows.bench.questions import questions
from headwater.flows.bench.readers import Readers
from headwater.flows.bench.readings import HOT, READINGS, SIZE, hot, reading
from headwater.flows.bench.remains import Differences, Remains, differences
from headwater.flows.bench.stale import stale
from headwater.flows.bench.streams import check, tally, values_step
from headwater.flows.bench.texts import text
from headwater.flows.bench.which import BENCHES, HELP
from headwater.flows.nyc.data import Flight
from headwater.lineage.errors import Misused
from headwater.lineage.event import Position
from headwater.lineage.names import mentioning
from headwater.lineage.store import open_database
from headwater.lineage.verify import verify

KEYS = {"name", "value", "unit", "reference", "ratio", "target", "meets"}


class Hashing(HashEmbedder):
    """An embedder with a model inside, as MiniLM is."""

    def __init__(self) -> None:
        super().__init__(384)

    @property
    def model(self):
        return self

    def encode(self, texts, batch_size, show_progress_bar):
        return self.embed(texts)


def bench(*targets: Target, rounds=lambda bed: iter(())) -> Bench:
    return Bench("b", "what", "events/s", targets, rounds, "ref")


def test_the_median_of_pairs_is_told():
    """Value and reference are medians; the ratio is the median of the pairs' ratios, so that one noisy pair does not count."""
    finding = Finding(bench(Target("≥", 2)), (Round(10, 5), Round(1, 100), Round(30, 10)))
    assert (finding.value, finding.reference, finding.ratio) == (10, 10, 2)
    assert finding.meets


@pytest.mark.parametrize(
    ("target", "holds", "words"),
    [
        (Target("≥", 2), True, "≥ 2×"),
        (Target("≥", 2.1), False, "≥ 2.1×"),
        (Target("<", 11, "value", "s"), True, "< 11 s"),
        (Target("<", 10, "value", "s"), False, "< 10 s"),
        (Target("=", 3, "made"), True, "made = 3"),
        (Target("≥", 3, "×made"), True, "≥ 3× made"),
        (Target("≥", 4, "×made"), False, "≥ 4× made"),
        (Target("<", 100, "missing"), False, "missing < 100"),
        (Target(">", 1.9), True, "> 1.9×"),
        (Target(">", 2), False, "> 2×"),
        (Target("≤", 2), True, "≤ 2×"),
        (Target("≤", 1.9), False, "≤ 1.9×"),
        (Target("≥", 3, "×missing", where_measured=True), True, "≥ 3× missing"),
        (Target("≥", 4, "×made", where_measured=True), False, "≥ 4× made"),
    ],
)
def test_targets(target, holds, words):
    """A target is about the value, the ratio or a figure beside; one that was not measured holds nothing."""
    finding = Finding(bench(target), (Round(10, 5, {"made": 3}),))
    assert finding.meets is holds
    assert str(target) == words


def test_what_could_not_run_met_nothing():
    """A bench that raises says why, has no figures and does not count as met, even where it demands nothing; the next one runs."""

    def rounds(bed):
        yield Round(1.0)
        raise RuntimeError("no power")

    silent = Console(file=io.StringIO())
    with pytest.MonkeyPatch.context() as patch, Bed(0.001) as bed:
        patch.setattr(command.importlib, "import_module", lambda name: type("M", (), {"BENCH": bench(rounds=rounds)}))
        finding = command.measure("b", bed, 2, silent)
    assert "no power" in finding.why
    assert (finding.value, finding.ratio, finding.meets) == (None, None, False)
    assert finding.as_data()["why"] == finding.why


def test_the_warm_up_does_not_count():
    """With `--runs N`, N rounds count: the first one measured is left out."""
    with pytest.MonkeyPatch.context() as patch, Bed(0.001) as bed:
        counting = bench(rounds=lambda bed: (Round(float(n)) for n in range(100)))
        patch.setattr(command.importlib, "import_module", lambda name: type("M", (), {"BENCH": counting}))
        finding = command.measure("b", bed, 3, Console(file=io.StringIO()))
    assert [each.value for each in finding.rounds] == [1.0, 2.0, 3.0]


def test_unknown_names_and_senseless_runs_are_refused(tmp_path):
    """A wrong name is answered with the names there are; none named means all, in one order, each once."""
    with pytest.raises(Misused, match="source, ingest"):
        command.choose(["sorce"])
    assert command.choose([]) == list(command.NAMES)
    assert command.choose(["warm", "source", "warm"]) == ["source", "warm"]
    with pytest.raises(Misused, match="--runs 0"):
        command.run(["warm"], None, 0)
    with pytest.raises(Misused, match="--points 5"):
        command.run(["search"], None, 1, points=5)
    with pytest.raises(Misused, match="make it first"):
        command.run(["warm"], tmp_path / "missing" / "file.json", 1)


def test_readings_are_of_the_size_that_is_told():
    """Every reading is 170 bytes and decodes to itself; tallying finds every device and every hot one."""
    some = [reading(number) for number in range(0, 300_000, 977)]
    assert {len(READINGS.encode(one)) for one in some} == {SIZE}
    assert all(READINGS.decode(READINGS.encode(one)) == one for one in some)
    counts = dict(tally([reading(number) for number in range(500)]))
    check(counts, 500)
    assert hot(500) == counts["hot"] == sum(reading(number).celsius > HOT for number in range(500))


def test_a_round_that_did_something_else_is_spoiled():
    """A lost or doubled event spoils the round: its time would mean nothing."""
    counts = dict(tally([reading(number) for number in range(500)]))
    with pytest.raises(Spoiled):
        check(counts, 501)
    with pytest.raises(Spoiled, match="2 where 3"):
        demand(2, 3, "things")


def test_values_are_validated():
    """The step that is measured refuses what breaks the model: it is no shortcut."""
    batch = type("B", (), {"values": lambda self: [READINGS.encode(reading(1)).replace(b'"celsius":21.0', b'"celsius":"x"')]})()
    with pytest.raises(Exception, match="celsius"):
        values_step([batch])


def test_texts_differ():
    """No two documents are alike, and each is the same on every run."""
    assert len({text(number) for number in range(300)}) == 300
    assert text(7) == text(7)


def test_real_texts_and_their_vectors_are_made_once(tmp_path, monkeypatch):
    """No two texts alike; vectors are kept shard by shard: broken off they go on, and a text that changed is made anew with its shard."""
    said = flown.documents(120)
    assert len({each.text for each in said}) == len({each.id for each in said}) == 120
    monkeypatch.setattr(flown, "SHARD", 50)
    texts, model = [each.text for each in said], HashEmbedder()
    flown.vectors(texts[:50], model, tmp_path)
    assert (flown.vectors(texts, model, tmp_path) == HashEmbedder().embed(texts)).all()
    assert model.embedded == texts
    changed = [*texts[:119], "another"]
    assert (flown.vectors(changed, model, tmp_path) == HashEmbedder().embed(changed)).all()
    assert model.embedded == [*texts, *changed[100:]]


LONG = {"recovery"}  # five processes that start and stop


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in command.NAMES])
def test_each_bench_yields_what_is_promised(name, tmp_path, monkeypatch):
    """At a tiny size every bench runs, and its JSON has the promised form; in place of the model stands one that hashes words."""
    for each in (embed, quality, search):
        monkeypatch.setattr(each, "minilm", Hashing)
    out = io.StringIO()
    file = tmp_path / "bench.json"
    command.run([name], file, 1, scale=2_000 / 300_000, console=Console(file=out, width=160))
    told = json.loads(file.read_text())
    assert set(told) == {"machine", "version", "benches"}
    (found,) = told["benches"]
    assert set(found) >= KEYS
    if "the machine is too busy" in found["why"]:
        pytest.skip(found["why"])  # a bench that refuses to measure nonsense is right to
    assert found["why"] == ""
    assert found["value"] > 0
    assert isinstance(found["meets"], bool)
    assert (found["ratio"] is None) == (found["reference"] is None)
    assert name in out.getvalue()


def test_a_ranking_is_judged_by_what_is_right():
    """nDCG and recall against what they are defined as: 1 for the right ones first, less the later they come, documents counted once."""
    assert documents(["a", "b", "a", *"cdefghijkl"]) == list("abcdefghij")
    assert ndcg(["a", "b", "x"], {"a", "b"}) == 1 and recall(["a", "x", "b"], {"a", "b", "c"}) == pytest.approx(2 / 3)
    assert ndcg(["x", "a"], {"a"}) == pytest.approx(1 / math.log2(3)) and ndcg(["x"], {"a"}) == 0
    assert recall([*"abcdefghij", "k"], set("abcdefghijk")) == 1


def test_questions_are_answered_by_all_that_fits_and_half_are_held_out():
    """The right documents follow from the data, all of them and no others; the same questions come on every run."""
    flights = [
        Flight(
            id=f"{day}-{origin}-{n}", sequence=2, status=status, carrier="UA", flight=n, origin=origin, destination="IAH",
            scheduled=f"{day} 07:30",
        )
        for day, status in (("2013-02-07", "departed"), ("2013-02-08", "cancelled")) for origin in ("EWR", "LGA") for n in range(1, 7)
    ]  # fmt: skip
    asked = questions(flights, [], {"UA": {"name": "United Air Lines Inc."}}, {"IAH": {"name": "Houston"}}, {})
    by_id = {f"flight_status/{one.id}": one for one in flights}
    assert {one.kind for one in asked} == {"flight", "route", "procedure", "situation"}
    for one in asked:
        for flight in (by_id[id] for id in one.right if id in by_id):
            assert flight.scheduled[:10] in one.text
    routes = [one for one in asked if one.kind == "route"]
    assert len(routes) == 4 and all(len(one.right) == 6 for one in routes)
    assert 0.3 < sum(one.held_out for one in asked) / len(asked) < 0.7
    assert asked == questions(flights, [], {"UA": {"name": "United Air Lines Inc."}}, {"IAH": {"name": "Houston"}}, {})


def test_help_tells_of_every_bench():
    """What `--help` lists is what there is: a module of each name, whose bench bears that name."""
    assert all(importlib.import_module(f"headwater.flows.bench.{name}").BENCH.name == name for name in BENCHES)
    assert all(name in HELP for name in BENCHES)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The database of `why`, as small as it can be."""
    return millions.millions(tmp_path_factory.mktemp("millions"), millions.COPIES * told.OF_A_BATCH)


def test_millions_are_made_as_landing_would_have_left_them(many):
    """What SQL multiplied verifies like what landed, chain and conservation; every copy's documents are found by ids of their own."""
    with open_database(many, read_only=True) as lineage:
        found = verify(lineage, in_flight_ok=False)
        assert found.ok, found.offences
        kinds = dict(lineage.execute("SELECT kind, count(*) FROM records GROUP BY kind").fetchall())
        assert kinds["document"] == 64 * millions.COPIES and kinds["decision"] == len(millions.decisions())
        refs = lineage.execute("SELECT ref, data->>'$.event', data->>'$.chunks[0].id' FROM records WHERE kind = 'document'").fetchall()
        assert all(len(set(column)) == kinds["document"] for column in zip(*refs, strict=True))
        for names in refs[:: kinds["document"] // 7]:
            assert [[record.ref for record in mentioning(lineage.cursor(), [name])] for name in names] == [[names[0]]] * 3
    before = many.stat().st_ino
    assert millions.millions(many.parent, millions.COPIES * told.OF_A_BATCH).stat().st_ino == before


def test_every_report_of_a_meter_has_its_vector(tmp_path):
    """The vectors that are prepared are of all texts that come, each meter's two; what is no report says nothing."""
    many = 7
    levels = [meters.level(number, many) for number in range(many * (1 + meters.PASSES))]
    said = [meters.text(each) for each in levels if each.report]
    assert sorted(said) == sorted(meters.texts(many)) and len(set(said)) == 2 * many
    assert Counter(each.meter for each in levels if each.report) == {f"meter-{n:05d}": 2 for n in range(many)}
    meters.prepare(tmp_path / "vectors.npy", many)
    prepared = meters.Prepared(tmp_path / "vectors.npy", meters.texts(many))
    assert (prepared.embed([said[-1], "a question"]) == HashEmbedder(meters.SIZE).embed([said[-1], "a question"])).all()


def test_what_a_kill_lost_or_doubled_is_counted():
    """An activation, a fact, a position too few is lost, one too many doubled; a state or an index that differs spoils the round."""
    fact, ended = ("document", "index"), ("index", 0, "indexed")
    whole = Remains({"a": b"1"}, 0, {"rule": {"k": 1}}, {"d": 2}, Counter([fact]), Counter({ended: 5}))
    assert differences(whole, whole) == (0, 0)
    assert differences(whole._replace(activations={}), whole) == Differences(1, 0)
    assert differences(whole._replace(activations={"a": b"2"}), whole) == Differences(1, 1)
    assert differences(whole._replace(facts=Counter([fact, fact]), ended=Counter({ended: 3})), whole) == Differences(2, 1)
    with pytest.raises(Spoiled, match=r"state differs.*rule"):
        differences(whole._replace(state={"rule": {"k": 2}}), whole)
    with pytest.raises(Spoiled, match=r"indexed differs.*d"):
        differences(whole._replace(indexed={}), whole)


def test_readers_ask_what_may_be_asked(many):
    """Each reader comes to its answer, and none of the questions is refused."""
    with open_database(many, read_only=True) as lineage, Readers(lineage, readers=5, pause_s=0.01) as readers:
        while readers.answers < 5 and readers.refused is None:
            time.sleep(0.01)
    assert readers.refused is None


def test_answers_about_facts_that_change_no_more_are_no_figure():
    """None of them could be stale: a writer that fails spoils the round."""
    places = iter([Position("b", "bench-facts", 0, 0)])
    writer = Some(write=lambda sent: [next(places)])  # the second write fails
    answer = Some(results=[Some(fields={"value": 0})])
    up = Some(run=Some(writer=writer, retriever=Some(search=lambda *asked, **wishes: time.sleep(0.001) or answer)), failure=None)
    with pytest.raises(Spoiled, match="stopped changing: StopIteration"):
        stale(up, 50)
