"""The application: everything declared in one Python file, as frozen data, bound together and checked."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headwater.agents.agent import Agent
from headwater.enrichers.document import Delete, Document, DocumentType, Files, unique
from headwater.enrichers.embed import Embedder
from headwater.enrichers.latest import Latest
from headwater.enrichers.lookup import Lookup
from headwater.enrichers.rerank import Reranker
from headwater.flows.bridge import Bridge
from headwater.flows.drop import Drop
from headwater.flows.earlier import recents
from headwater.flows.poll import Poll
from headwater.flows.schedule import Schedule
from headwater.flows.webhook import Webhook
from headwater.lineage.errors import HeadwaterError, Misused
from headwater.lineage.select import Select, together
from headwater.lineage.topic import ACTIVATIONS, DEAD, DECISIONS, LINEAGE, REVIEWS, Topic

FILES = "headwater.files"


class FileText(msgspec.Struct, frozen=True):
    """The data of an event on `headwater.files`: one text file as it is now. `text=None`: it is gone; `version` is when, in µs."""

    path: str
    text: str | None
    version: int


@dataclass(frozen=True)
class App:
    """An application: `App("airport", documents=[…], triggers=[…], agents=[…])`.

    root         what relative paths of look-ups and files start from: the application file's directory
    gateways  ways in besides `POST /v1/events`: Webhook, Drop, Schedule, Poll
    embedder     what makes vectors of texts; None: the bundled MiniLM
    activations  partitions of the activations topic, and so of decisions: how many processes `decide` can use
    reranker  has the last word on the best candidates of every search that does not do without
    """

    name: str
    documents: Sequence[DocumentType | Files] = ()
    triggers: Sequence[Any] = ()
    agents: Sequence[Agent] = ()
    root: Path = field(default_factory=lambda: _caller())
    activations: int = 2
    gateways: Sequence[Webhook | Drop | Schedule | Poll] = ()
    bridges: Sequence[Bridge] = ()
    embedder: Embedder | None = None
    reranker: Reranker | None = None

    def __post_init__(self) -> None:
        unique((d.name for d in self.documents if isinstance(d, DocumentType)), "documents")
        for rule in self.triggers:
            if not callable(getattr(rule, "machine", None)):
                raise Misused(f"triggers holds a {type(rule).__name__} ({rule!r}); give rules, such as Threshold(…)")
        unique((rule.name for rule in self.triggers), "triggers")
        unique((agent.name for agent in self.agents), "agents")
        unique((gateway.origin for gateway in self.gateways), "gateways")
        unique((bridge.name for bridge in self.bridges), "bridges")
        known = {id(rule) for rule in self.triggers}
        for agent in self.agents:
            for rule in (*agent.wakes_on, *agent.awaits):
                if id(rule) not in known:
                    raise Misused(f"agent {agent.name} wakes on {rule.name!r}, which is not among the App's triggers")
        for topic in self.topics.values():
            bound = {name: e.bind(self.root) if isinstance(e, Lookup) and e.root is None else e for name, e in topic.enrich.items()}
            object.__setattr__(topic, "enrich", bound)
        kinds = {id(kind) for kind in self.document_types}
        for rule in self.triggers:
            for given in rule.inputs:
                if given.kind is not None and id(given.kind) not in kinds:
                    raise Misused(f"rule {rule.name!r} asks for documents of type {given.kind.name!r}; name it among the App's documents")
        list(recents(self.topics))

    @property
    def topics(self) -> dict[str, Topic[Any]]:
        """Every domain topic the application names, by name. Raises Misused when two differ under one name."""
        found: dict[str, Topic[Any]] = {}
        pending: list[Topic[Any]] = [d.topic for d in self.document_types]
        pending += [given.topic for rule in self.triggers for given in rule.inputs]
        pending += [topic for agent in self.agents for topic in agent.publishes]
        pending += [gateway.into for gateway in self.gateways]
        pending += [topic for bridge in self.bridges for topic in bridge.declared]
        while pending:
            topic = pending.pop(0)
            if found.setdefault(topic.name, topic) is not topic:
                raise Misused(f"two topics are called {topic.name!r}; declare a topic once and use it everywhere")
            pending += [e.topic for e in topic.enrich.values() if isinstance(e, Latest) and e.topic.name not in found]
        return found

    @property
    def document_types(self) -> list[DocumentType]:
        """The declared documents; all `Files` together are one type over the topic of file texts."""
        types = [d for d in self.documents if isinstance(d, DocumentType)]
        return [*types, FILES_DOCUMENT] if self.files else types

    @property
    def files(self) -> list[Files]:
        return [d for d in self.documents if isinstance(d, Files)]

    @property
    def indexed(self) -> dict[str, Topic[Any]]:
        """The topics `index` reads."""
        return {d.topic.name: d.topic for d in self.document_types}

    @property
    def watched(self) -> dict[str, Topic[Any]]:
        """The topics `detect` reads."""
        return {given.topic.name: given.topic for rule in self.triggers for given in rule.inputs}

    @property
    def selected_documents(self) -> dict[str, tuple[Select, ...]]:
        """Topic → what its document types select, where none of them wants every event."""
        return {name: together(d.select for d in self.document_types if d.topic is topic) for name, topic in self.indexed.items()}

    @property
    def selected_rules(self) -> dict[str, tuple[Select, ...]]:
        """The same of the rules."""
        inputs = [given for rule in self.triggers for given in rule.inputs]
        return {name: together(given.select for given in inputs if given.topic is topic) for name, topic in self.watched.items()}

    @property
    def tables(self) -> list[Latest]:
        """The look-ups into other topics."""
        return [e for topic in self.topics.values() for e in topic.enrich.values() if isinstance(e, Latest)]

    @property
    def partitions(self) -> dict[str, int]:
        """Every topic that must exist, with its number of partitions, internal ones included."""
        domain = {name: topic.partitions for name, topic in self.topics.items()}
        return {**domain, ACTIVATIONS: self.activations, DECISIONS: self.activations, REVIEWS: 1, LINEAGE: 1, DEAD: 1}


def _file_document(file: FileText, facts: Any) -> Document | Delete:
    if file.text is None:
        return Delete(file.path)
    return Document(id=file.path, text=file.text, fields={"path": file.path})


def _internal_topic() -> Topic[FileText]:
    topic: Topic[FileText] = Topic("files", FileText, key="path", max_bytes=16_000_000)
    object.__setattr__(topic, "name", FILES)  # an application may not take a name under headwater.; this topic is ours
    return topic


FILES_TOPIC = _internal_topic()
FILES_DOCUMENT = DocumentType("files", FILES_TOPIC, _file_document, version="version")


def load(target: str) -> App:
    """The App of `FILE.py` or `MODULE:NAME` (object `app`). Modules beside the file, or below the working directory, can be imported.
    Raises Misused."""
    path = file_of_target(target)
    if path is not None:
        return app_in(_from_file(path), target)
    _importable(Path.cwd())
    try:
        return app_in(importlib.import_module(target.partition(":")[0]), target)
    except ImportError as error:
        raise Misused(f"application {target!r}: {error}") from None


def file_of_target(target: str) -> Path | None:
    """The file that a target names; None: it names a module."""
    named = target.partition(":")[0]
    return Path(named) if named.endswith(".py") else None


def app_in(module: Any, target: str) -> App:
    """The App that a target names, of its module. Raises Misused."""
    name = target.partition(":")[2] or "app"
    app = getattr(module, name, None)
    if not isinstance(app, App):
        raise Misused(f"{target} has no App called {name!r}; write: {name} = App(…)")
    return app


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise Misused(f"there is no application file {path}; name one, set HEADWATER_APP, or make one with: headwater init DIR")
    name = f"headwater_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None, path
    _importable(path.resolve().parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic and pickle look classes up by module name
    try:
        spec.loader.exec_module(module)
    except HeadwaterError:
        raise
    except Exception as error:
        del sys.modules[name]
        raise Misused(f"application {path}, {_line_of(error, path)}: {type(error).__name__}: {error}") from error
    return module


def _importable(folder: Path) -> None:
    """Let what lies in a folder be imported, as beside a script; last, so that none of it hides what is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _line_of(error: Exception, path: Path) -> str:
    """Where in the file it went wrong: the last of its lines that was reached."""
    if isinstance(error, SyntaxError) and error.filename == str(path.resolve()):  # else it stands in a file that this one imports
        return f"line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()]
    return f"line {lines[-1]}" if lines else "on loading"


def _caller() -> Path:
    """The directory of the file that makes the App."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("headwater.flows.app", "dataclasses")):
        frame = frame.f_back
    file = frame.f_globals.get("__file__")
    return Path(file).resolve().parent if file else Path.cwd()
