"""Which benchmarks there are, and what each is about in a few words: no more than `--help` needs."""

BENCHES = {
    "source": "Kafka to nothing",
    "ingest": "Kafka, decoded, counted, filtered",
    "accounting": "what telling of every event costs",
    "scale": "what a second process costs",
    "embed": "documents through the model",
    "warm": "a restart where nothing changed",
    "lineage": "records into DuckDB, chained",
    "readers": "landing beside ten readers",
    "why": "one decision among ten million records",
    "recovery": "kill -9 a million events behind",
    "agents": "inline calls to a slow model",
    "neighbours": "what an agent that is slow or dead does to others",
    "freshness": "produce to retrievable",
    "quality": "how well search finds",
    "search": "top ten of 100,000 points under load",
}
"""In the order in which they run; each is the module of its name, imported when it is its turn."""

NAMES = tuple(BENCHES)
HELP = f"Which benchmarks; none: all. There are {', '.join(f'{name} ({what})' for name, what in BENCHES.items())}"
