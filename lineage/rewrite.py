"""rewrite: the database copied into a new file, so that what was removed from the old one is nowhere.

DuckDB marks what is deleted and frees its blocks, but overwrites neither; a file that never held a text holds no trace of it.
"""



import os
from pathlib import Path

import duckdb

from headwater.lineage.migrations import LEDGER, MIGRATIONS

TABLES = ("migrations", "records", "chain", "offsets", "replays", "name_pages", "names_new", "contents", "contents_key", "pruned",
          "stretches", "sums")  # fmt: skip
"""All tables that have rows to copy: of `unscrubbed` nothing is to be left."""
ROWS = 50_000


def beside(path: Path) -> Path:
    """Where the new file is made."""
    return path.with_name(path.name + ".rewriting")


def copied(source: duckdb.DuckDBPyConnection, new: duckdb.DuckDBPyConnection) -> None:
    """All rows of a snapshot, in their order, into an empty database."""
    new.execute(LEDGER)
    for migration in MIGRATIONS:
        for statement in migration.statements:
            new.execute(statement)
    for table in TABLES:
        new.register("rows", source.sql(f"FROM {table}").to_arrow_reader(ROWS))
        new.execute(f"INSERT INTO {table} BY NAME FROM rows")
        new.unregister("rows")
    new.execute("CHECKPOINT")


def on_disk(path: Path) -> None:
    """Wait until the file and its name are."""
    for each, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(each, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
