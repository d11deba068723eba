"""The index made anew and checked against the topics, where runtime, broker and engine meet."""

import uuid

import anyio
import msgspec
import pytest
from fastapi import FastAPI

from headwater import App, Delete, Document, Topic
from headwater.enrichers.document import DocumentType
from headwater.enrichers.testing import HashEmbedder
from headwater.flows import index_commands, index_routes
from headwater.flows.check import check
from headwater.flows.index_status import warnings
from headwater.flows.rebuild import Rebuild, outcome
from headwater.flows.reread import reread
from headwater.flows.runtime import Runtime
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing
from headwater.lineage.errors import Conflict, HeadwaterError, Unavailable


class Note(msgspec.Struct):
    id: str
    version: int
    text: str | None = None


class Other(HashEmbedder):
    """Another model, with other vectors."""

    name = "other"


def plain(note, facts):
    return Delete(note.id) if note.text is None else Document(note.id, note.text)


def loud(note, facts):
    if note.text == "whisper":
        raise ValueError("cannot be said aloud")
    return Delete(note.id) if note.text is None else Document(note.id, note.text.upper() + " aloud")


class Home:
    """One application over several lives, on one broker; its function and its model may change between them."""

    def __init__(self, kafka, path) -> None:
        self.kafka, self.path = kafka, path
        self.topic = Topic(f"notes-{uuid.uuid4().hex[:8]}", Note, key="id", partitions=2)
        self.runs = []
        self.made = 0

    def start(self, function=plain, embedder=None) -> Runtime:
        app = App("notes", documents=[DocumentType("note", self.topic, function, "version")], root=self.path)
        run = Runtime(app, Settings(home=self.path), self.kafka, embedder=embedder or HashEmbedder(16))
        run.prepare()
        self.runs.append(run)
        return run

    def publish(self, run, *notes) -> None:
        messages = []
        for id, version, text in notes:
            self.made += 1
            headers = [("ce_specversion", b"1.0"), ("ce_id", f"e{self.made}".encode()), ("ce_source", b"test"), ("ce_type", b"note")]
            value = msgspec.json.encode(Note(id, version, text))
            messages.append(Outgoing(self.topic.name, id.encode(), value, headers, sum(id.encode()) % 2))
        run.writer.write(messages)

    def flow(self, run) -> None:
        """What the flow `index` does with what it has not seen yet."""
        for partition in range(2):
            first = run.progress.as_of().get(f"{self.topic.name}/{partition}", 0)
            for piece in reread(run, self.topic.name, partition, first):
                run.indexing.index(piece.received)
                run.progress.settle(self.topic.name, partition, piece.next)
        run.save_progress()

    def stop(self, run) -> None:
        self.runs.remove(run)
        run.close()


@pytest.fixture
def home(kafka, tmp_path):
    made = Home(kafka, tmp_path)
    yield made
    for run in made.runs:
        run.close()


def texts(run, words="one two three") -> list[str]:
    return sorted(hit.text for hit in run.retriever.search(words).results)


def rebuilt(run, **options):
    return outcome(run.rebuild.steps(**options))


def test_a_changed_function_is_told_of_and_a_rebuild_turns_to_the_new_texts_without_a_gap(home):
    """The former texts answer until the last step, events that come meanwhile are in both, and afterwards nothing of the former is left."""
    run = home.start()
    home.publish(run, ("a", 1, "one"), ("a", 2, "two"), ("b", 1, "three"), ("c", 1, "gone"), ("c", 2, None))
    home.flow(run)
    home.stop(run)
    run = home.start(loud)
    assert run.rebuild.plan().changes == {"note": "the document function or its model changed"}
    assert ["document note: the document function" in each and "index rebuild" in each for each in warnings(run)] == [True]
    assert run.rebuild.plan().documents == {"note": 2} and run.rebuild.plan().events == 5
    seen, steps = [], run.rebuild.steps()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            done = end.value
            break
        seen.append(texts(run))
        if len(seen) == 2:
            home.publish(run, ("b", 2, "three and more"), ("a", 1, "a late one"))
            home.flow(run)
    assert seen[0] == ["three", "two"] and all(found in (seen[0], ["THREE AND MORE aloud", "two"]) for found in seen)
    assert texts(run) == ["THREE AND MORE aloud", "TWO aloud"]
    assert (done.events, done.carried, done.documents, done.refused) == (5, 0, 2, 0)
    assert run.rebuild.plan().changes == {} and not run.generations.begun()
    assert [folder.name for folder in home.path.glob("index*") if folder.is_dir()] == ["index-2"]
    home.publish(run, ("d", 1, "one more"))
    home.flow(run)
    assert outcome(check(run)).findings == []
    home.stop(run)
    run = home.start(loud)
    assert texts(run) == ["ONE MORE aloud", "THREE AND MORE aloud", "TWO aloud"]
    assert run.progress.as_of() != {}


def test_a_rebuild_that_was_cut_short_goes_on_and_embeds_nothing_twice(home, monkeypatch):
    """Cut after any step, the former index answers; asked again, the rebuild does not read what it has read, and ends as if never cut."""
    monkeypatch.setattr("headwater.flows.reread.PIECE", 2)
    run = home.start()
    home.publish(run, *((f"n{n}", 1, f"one {n}") for n in range(12)))
    home.flow(run)
    home.stop(run)
    cut, read = 1, 0
    while True:
        run = home.start(loud)
        steps = run.rebuild.steps()
        try:
            for _ in range(cut):
                next(steps)
        except StopIteration:
            break
        steps.close()
        assert "ONE 1 aloud" not in texts(run)
        assert run.generations.begun() and run.rebuild.plan().resumes and not run.rebuild.running
        read += len(run.embedder.embedded)
        home.stop(run)
        cut += 3
    assert len(texts(run, "one aloud")) == 10 == len({*texts(run, "one aloud")})
    assert outcome(check(run)).documents == 12 and outcome(check(run)).findings == []
    computed = read + len(run.embedder.embedded)
    assert computed < 12 * 3, "what had been read was embedded again in every attempt"


def test_another_model_is_searched_by_words_until_it_is_rebuilt(home):
    """Vectors of two models are never compared, whatever their sizes; words find everything, new events too; a rebuild brings both back."""
    run = home.start()
    home.publish(run, ("a", 1, "one two"), ("b", 1, "two three"))
    home.flow(run)
    home.stop(run)
    run = home.start(embedder=Other(24))
    home.publish(run, ("c", 1, "three four"))
    home.flow(run)
    assert texts(run) == ["one two", "three four", "two three"]
    assert texts(run, "five") == [] and run.index.size == 24
    assert list(run.rebuild.plan().changes) == [""]
    rebuilt(run)
    assert texts(run, "five") != [] and texts(run) == ["one two", "three four", "two three"]
    assert all(hit.dense > 0.5 for hit in run.retriever.search("three four", limit=1).results)
    home.stop(run)
    run = home.start(embedder=Other(24))
    assert run.rebuild.plan().changes == {} and texts(run, "five") != []


def test_the_same_texts_take_their_vectors_from_the_former_index(home):
    """Where only the making of some documents changed, nothing else is embedded."""
    run = home.start()
    home.publish(run, *((f"n{n}", 1, f"one {n}") for n in range(8)))
    home.flow(run)
    home.stop(run)

    def same_texts(note, facts):
        return plain(note, facts)

    run = home.start(same_texts)
    assert run.rebuild.plan().changes
    rebuilt(run)
    assert run.embedder.embedded == [] and run.index.count().documents == 8


def test_documents_whose_events_are_gone_are_taken_over(home, tmp_path):
    """On another broker's life nothing can be read again: documents stay, deletions stay, those of undeclared types go."""
    run = home.start()
    home.publish(run, ("a", 1, "one"), ("a", 2, "two"), ("c", 3, "gone"), ("c", 4, None))
    home.flow(run)
    home.stop(run)
    home.topic = Topic("notes-of-another-life", Note, key="id", partitions=2)
    run = home.start(loud, Other(16))
    done = rebuilt(run)
    assert (done.events, done.documents) == (0, 1) and done.carried == 4
    assert texts(run) == ["two"] and run.retriever.document("note/c")["deleted"]
    assert [each["version"] for each in run.retriever.document("note/a")["versions"]] == [2, 1]
    home.stop(run)
    home.topic = Topic("notes-of-a-third-life", Note, key="id", partitions=2)
    app = App("notes", documents=[DocumentType("memo", home.topic, plain, "version")], root=tmp_path)
    run = Runtime(app, Settings(home=tmp_path), home.kafka, embedder=Other(16))
    home.runs.append(run)
    run.prepare()
    assert rebuilt(run).documents == 0


def test_a_function_that_refuses_what_it_took_before_does_not_empty_the_index(home):
    """Events that are no dead letters and are refused stop the rebuild before its last step, unless that is asked for."""
    run = home.start()
    home.publish(run, ("a", 1, "whisper"), ("b", 1, "one"))
    home.flow(run)
    home.stop(run)
    run = home.start(loud)
    with pytest.raises(Conflict, match="cannot be said aloud"):
        rebuilt(run)
    assert texts(run, "whisper one") == ["one", "whisper"]
    assert rebuilt(run, accept_refused=True).refused == 1
    assert texts(run, "whisper one") == ["ONE aloud"]


def test_a_tombstone_stops_no_rebuild(home):
    """On a compacted topic it is no event: no check and no rebuild takes it for one that is refused."""
    home.topic = Topic(home.topic.name, Note, key="id", partitions=2, compact=True)
    run = home.start()
    home.publish(run, ("a", 1, "one"))
    run.writer.write([Outgoing(home.topic.name, b"a", None, [], 1)])
    home.flow(run)
    checked = outcome(check(run))
    assert (checked.refused, checked.findings) == (0, [])
    assert rebuilt(run).refused == 0 and texts(run) == ["one"]


def test_a_check_finds_and_mends_what_the_events_say_otherwise(home):
    """Damage behind the flow's back is named by a check, changed by none, mended by a repair; what is not indexed yet is none."""
    run = home.start()
    home.publish(run, *((f"n{n}", version, f"one {n} {version}") for n in range(6) for version in (1, 2)))
    home.flow(run)
    home.publish(run, ("n0", 3, "not indexed yet"))
    before = texts(run)
    assert outcome(check(run)).findings == []
    heads = run.index.heads(["note/n1", "note/n2"])
    run.index.delete(heads["note/n1"].current.points("note/n1"))
    run.index.supersede({5: heads["note/n2"].current.points("note/n2")})
    found = outcome(check(run))
    assert {(one.kind, one.document) for one in found.findings} == {("incomplete", "note/n1"), ("live", "note/n2")} and not found.ok
    assert outcome(check(run)).findings == found.findings
    mended = outcome(check(run, repair=True))
    assert mended.ok and mended.repaired and mended.left == [] and texts(run) == before
    assert outcome(check(run)).ok


def test_one_at_a_time_and_only_of_the_same_making(home):
    """A check beside a rebuild is refused, and so is a check of an index that the application would make otherwise."""
    run = home.start()
    home.publish(run, ("a", 1, "one"))
    home.flow(run)
    steps = run.rebuild.steps()
    next(steps)
    for other in (check(run), run.rebuild.steps()):
        with pytest.raises(Conflict, match="under way"):
            outcome(other)
    steps.close()
    home.stop(run)
    run = home.start(loud)
    with pytest.raises(Conflict, match="another making"):
        outcome(check(run))


async def gone_after_the_first_line(app, path) -> None:
    """A caller by HTTP who asks, reads one line, and is no more."""
    read, asked = anyio.Event(), [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive():
        if asked:
            return asked.pop()
        await read.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            read.set()
            await anyio.sleep_forever()

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    await app({**scope, "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}}, receive, send)


@pytest.mark.parametrize("path", ["/v1/index/rebuild", "/v1/index/check"])
def test_a_caller_who_goes_away_leaves_nothing_under_way(home, monkeypatch, path):
    """The steps end with him, whatever still knows of them, so that the next one is not told to wait for somebody who is gone."""
    run = home.start()
    home.publish(run, ("a", 1, "one"), ("b", 1, "two"))
    home.flow(run)
    known = []
    for module, name in ((index_routes, "check"), (run.rebuild, "steps")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real, **options: known.append(real(*args, **options)) or known[-1])
    app = FastAPI()
    app.include_router(index_routes.routes(lambda: run))
    anyio.run(gone_after_the_first_line, app, path)
    assert len(known) == 1 and not run.rebuild.running
    assert rebuilt(run).documents == 2


def test_an_index_beside_that_fails_ends_the_rebuild_and_not_the_flow(home, monkeypatch):
    """The flow goes on; the rebuild says why it ended."""
    run = home.start()
    home.publish(run, ("a", 1, "one"))
    home.flow(run)
    steps = Rebuild.steps(run.rebuild)
    next(steps)
    beside = run.indexing._beside
    monkeypatch.setattr(beside, "index", lambda received: (_ for _ in ()).throw(Conflict("the disk is full")))
    home.publish(run, ("b", 1, "two"))
    home.flow(run)
    with pytest.raises(HeadwaterError, match="the disk is full"):
        outcome(steps)
    assert texts(run) == ["one", "two"]


APPLICATION = """
import msgspec
from headwater import App, Document, Topic, document

class Note(msgspec.Struct):
    id: str
    version: int
    text: str | None = None

notes = Topic("TOPIC", Note, key="id", partitions=2)

@document(notes, version="version")
def note(note, facts):
    return Document(note.id, note.text)

app = App("notes", documents=[note])
"""


def test_the_commands_work_on_a_stopped_home_whose_broker_keeps_its_topics(home, capsys, monkeypatch):
    """Status, dry run, rebuild and check open the index themselves, hold its home, and print what they did as data."""
    monkeypatch.setattr("headwater.flows.runtime.minilm", lambda: HashEmbedder(16))
    file = home.path / "app.py"
    file.write_text(APPLICATION.replace("TOPIC", home.topic.name))
    run = home.start()
    home.publish(run, ("a", 1, "one"), ("b", 1, "two"))
    home.flow(run)
    home.stop(run)
    settings = Settings(home=home.path, kafka=home.kafka.properties)

    def printed():
        return msgspec.json.decode(capsys.readouterr().out)

    index_commands.status(settings, str(file), True)
    status = printed()
    assert (status["documents"], status["rebuild"], [each["documents"] for each in status["changes"]]) == (2, "none", [2])
    index_commands.rebuild(settings, str(file), dry_run=True, accept_refused=False, as_json=True)
    assert printed()["events"] == 2
    with pytest.raises(Conflict, match="another making"):
        index_commands.check(settings, str(file), repair=False, as_json=True)
    index_commands.rebuild(settings, str(file), dry_run=False, accept_refused=False, as_json=True)
    assert printed() == {"events": 2, "carried": 0, "documents": 2, "refused": 0}
    assert index_commands.check(settings, str(file), repair=True, as_json=True)
    assert printed()["findings"] == []
    with pytest.raises(Unavailable, match="forgot the events"):
        index_commands.check(Settings(home=home.path), str(file), repair=False, as_json=True)
