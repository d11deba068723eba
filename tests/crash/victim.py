"""`headwater up` as a process to be killed: the real command, with a model that is no model.

As a program it is a nursery: it loads everything once and forks a victim for each line it is told, so that a victim starts in a moment.
It answers each line with one: {"run": {…}} → {"pid": n}; {"poll": pid} → {"status": null, or what the victim ended with}.

A victim's plan (see `run`):
    app, home   what to run, and where
    settings    environment-like settings
    idle        whether the wall clock may move the watermark; else what the rules say hangs on the topics' contents alone
    workers     worker threads of each flow
    http_off    open no HTTP door
    effects     pass the points of `effect_points`, and run no `index`
    landing     pass the points of `landing_points`, and run `audit` alone
    environ     what the application finds in its environment;  ahead  µs that its clock is ahead of this machine's
    steps       what disturbs it, see `points`
    stalls      a folder: a file in it stalls what it is called, `index`, `model` or `store`; see `headwater.enrichers.testing.Stall`
"""

import faulthandler
import importlib
import json
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
for _stream in (sys.stdout, sys.stderr):
    _stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]

from crash import effect_points, landing_points  # noqa: E402
from crash.points import Passing, Step, install  # noqa: E402

import headwater.agents.model as language  # noqa: E402
import headwater.flows.runtime as runtime  # noqa: E402
import headwater.flows.up_command as up_command  # noqa: E402
from headwater.agents.agent import Decision, Option  # noqa: E402
from headwater.agents.testing import ScriptedModel, StallingModel  # noqa: E402
from headwater.enrichers.testing import HashEmbedder, Stall, stalling  # noqa: E402
from headwater.flows.runtime import wall_clock  # noqa: E402
from headwater.flows.settings import load  # noqa: E402
from headwater.flows.up import Up  # noqa: E402
from headwater.lineage.errors import HeadwaterError  # noqa: E402
from headwater.lineage.store import Store  # noqa: E402

LOADED = (
    "headwater.flows.desk", "headwater.flows.serve", "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)  # fmt: skip
"""What `up` itself loads only where it opens its HTTP door: a third of what a victim's start took."""
for _module in LOADED:
    importlib.import_module(_module)


def run(plan: dict[str, Any]) -> None:
    """Be the victim."""
    home = Path(plan["home"])
    faulthandler.register(signal.SIGUSR1)
    if "stalls" in plan:
        _stall(Path(plan["stalls"]))
    os.environ.update(plan.get("environ", {}))
    steps = [Step(*step) for step in plan.get("steps", ())]
    options: dict[str, Any] = {"idle": plan.get("idle", True), "clock": partial(_clock, plan.get("ahead", 0))}
    if plan.get("effects"):
        effect_points.install(Passing(steps, home / "points", effect_points.EFFECT_POINTS))
        options |= {"embedder": HashEmbedder(), "flows": ("detect", "decide", "audit")}
    elif plan.get("landing"):
        passing = Passing(steps, home / "points", landing_points.LANDING_POINTS)
        landing_points.install(passing, overtaken=any(step.point == "ahead: overtaken" for step in steps))
        options |= {"embedder": HashEmbedder(), "flows": ("audit",)}
    else:
        options["embedder"] = install(Passing(steps, home / "points"))
    up_command.Up = partial(Up, **options)  # type: ignore[assignment,misc]
    given = {"HEADWATER_HOME": str(home), "HEADWATER_HTTP__PORT": "0", **plan.get("settings", {})}
    up_command.run(load(given, dotenv=Path("/none")), plan["app"], http=not plan.get("http_off"), workers=plan.get("workers", 1))


def _clock(ahead: int) -> int:
    return wall_clock() + ahead


def _stall(folder: Path) -> None:
    """Let the index, the model and the database be stalled by files."""
    opened, commit = runtime.open_index, Store._commit
    held = Stall(folder / "store")

    def committing(store: Store, ready: Any) -> None:
        held()
        commit(store, ready)

    runtime.open_index = lambda *args: stalling(opened(*args), Stall(folder / "index"))  # type: ignore[assignment]
    answers = ScriptedModel(Decision("send a crew", confidence=0.9, options=(Option("send a crew", 0.9),)))
    language.model_from = lambda *args: StallingModel(answers, Stall(folder / "model").holds)  # type: ignore[assignment,return-value]
    Store._commit = committing  # type: ignore[method-assign]


def _fork(plan: dict[str, Any]) -> int:
    """A victim in a process group of its own, its output in its home's victim.log."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        log = os.open(Path(plan["home"]) / "victim.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for file, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(file, number)
        run(plan)
        status = 0
    except HeadwaterError as error:
        print(f"headwater: {error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _status(pid: int) -> int | None:
    """What a child ended with, as subprocess tells it; None while it runs or stands still."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


if __name__ == "__main__":
    print(json.dumps({"ready": True}))
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps({"pid": _fork(asked["run"])} if "run" in asked else {"status": _status(asked["poll"])}))
