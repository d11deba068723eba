"""Run events: what a flow reads and writes, how much of it, and how its process ended, in the form of OpenLineage 2-0-2.

Per flow and process one run: START, then RUNNING now and again, then COMPLETE or FAIL; never one event per message.
Names of datasets follow OpenLineage's naming: `kafka://host:port` and a topic, `duckdb` and `qdrant` with where they are.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from headwater.lineage.duration import format_time

EventType = Literal["START", "RUNNING", "COMPLETE", "FAIL"]
PRODUCER = "urn:headwater"
_SPEC = "https://openlineage.io/spec"
SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"


class Dataset(NamedTuple):
    """A topic, an index, a database; where it is, and its name there."""

    namespace: str
    name: str


class Flow(NamedTuple):
    """What runs: one flow of an application in one process, `run` naming this start of it."""

    app: str
    name: str
    run: str
    version: str


def run_id(flow: Flow) -> str:
    """The UUID of a run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCER}/{flow.app}/{flow.name}/{flow.run}"))


def run_event(
    kind: EventType, flow: Flow, at: int, reads: Mapping[Dataset, int], writes: Mapping[Dataset, int], error: str = ""
) -> dict[str, Any]:
    """The event as JSON values. `at` in µs since 1970; `reads` and `writes` count rows since the start of this run."""
    facets: dict[str, Any] = {
        "processing_engine": {**_facet("1-1-1/ProcessingEngineRunFacet"), "version": flow.version, "name": "headwater"}
    }
    if error:
        facets["errorMessage"] = {**_facet("1-0-1/ErrorMessageRunFacet"), "message": error, "programmingLanguage": "Python"}
    job_type = {**_facet("2-0-4/JobTypeJobFacet"), "processingType": "STREAMING", "integration": "HEADWATER", "jobType": "FLOW"}
    return {
        "eventType": kind,
        "eventTime": format_time(at),
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": run_id(flow), "facets": facets},
        "job": {"namespace": f"headwater/{flow.app}", "name": flow.name, "facets": {"jobType": job_type}},
        "inputs": _datasets(reads, "inputFacets", "inputStatistics", "1-0-0/InputStatisticsInputDatasetFacet"),
        "outputs": _datasets(writes, "outputFacets", "outputStatistics", "1-0-2/OutputStatisticsOutputDatasetFacet"),
    }


def _datasets(counts: Mapping[Dataset, int], facets: str, facet: str, schema: str) -> Sequence[dict[str, Any]]:
    return [
        {"namespace": dataset.namespace, "name": dataset.name, facets: {facet: {**_facet(schema), "rowCount": many}}}
        for dataset, many in sorted(counts.items())
    ]


def _facet(schema: str) -> dict[str, str]:
    name = schema.partition("/")[2]
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{schema}.json#/$defs/{name}"}
