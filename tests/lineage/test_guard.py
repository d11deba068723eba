import threading
import time

import duckdb
import pytest

from headwater.lineage.errors import Forbidden, HeadwaterError, Misused, Unavailable
from headwater.lineage.guard import reading
from headwater.lineage.store import SETTINGS, Store
from headwater.lineage.testing import landings, sample_records
from headwater.lineage.verify import verify


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    home = tmp_path_factory.mktemp("guard")
    (home / "secret.csv").write_text("a\n1\n")
    with Store(home / "lineage.duckdb", clock=lambda: 1) as opened:
        opened.land(landings(sample_records())[:2])
        yield opened


def rows(store, query, **options):
    with reading(store, query, **options) as reader:
        return reader.read_all().to_pylist()


ALLOWED = [
    "from decisions", "select count(*) from records;", "with d as (from documents) select * from d", "values (1)", "table outcomes",
    "describe decisions", "show tables", "summarize outcomes", "select * from range(3)", "select unnest([1, 2])", "-- why\nselect 1",
    "select 'DELETE; DROP TABLE records' as text", "select * from documents where event is null",
    "pivot outcomes on outcome in ('indexed') using sum(count) group by flow", "select key from activations order by time",
]  # fmt: skip

REFUSED = [
    "insert into records select * from records", "with x as (select * from records) insert into records select * from x",
    "with x as (delete from records returning *) select * from x",
    "with x as (update records set kind = '' returning *) select * from x",
    "with x as (insert into offsets values ('b', 1, 1) returning *) select * from x",
    "delete from records", "update records set outcome = 'x'", "truncate records", "drop table records", "create table t (a int)",
    "create temp table t as select 1", "create view v as select 1", "create macro m() as 1", "alter table records add column x int",
    "copy records to 'out.csv'", "copy records from 'secret.csv'", "export database 'out'", "attach 'other.duckdb'", "detach memory",
    "use memory", "load httpfs", "install httpfs", "set threads = 1", "set timezone = 'America/New_York'", "set variable a = 1",
    "reset threads",
    "pragma database_list", "pragma threads = 4", "call pragma_version()", "checkpoint", "vacuum", "begin", "commit",
    "prepare p as select 1",
    "execute p", "explain analyze delete from records", "explain select 1", "select 1; select 2", "from decisions; delete from records", "",
    "-- nothing", "selec 1", "from nowhere",
    "from read_csv('{home}/secret.csv')", "from '{home}/secret.csv'", "select * from read_text('{home}/secret.csv')",
    "from glob('{home}/*')",
    "from read_blob('{home}/secret.csv')", "from read_json('{home}/secret.csv')", "from parquet_scan('{home}/x')",
    "from sniff_csv('{home}/secret.csv')",
    "from arrow_scan(1, 2, 3)", "select * from (select * from arrow_scan(1::UBIGINT, 2, 3))", "from pandas_scan(1)",
    "from query('delete from records')", "from query('select 1')", "from query_table('records')",
    "from enable_logging()", "from force_checkpoint()",
    "from duckdb_secrets()", "from duckdb_settings()", "select write_log('x')", "select (select write_log('x'))", "select sleep_ms(1)",
    "select 1 where exists (from duckdb_logs())", "from json_execute_serialized_sql('x')",
    "from which_secret('a', 's3')", "from store",
]  # fmt: skip


@pytest.mark.parametrize("query", ALLOWED)
def test_reading_is_allowed(store, query):
    """Every form of SELECT is answered, FROM-first, WITH, DESCRIBE and SUMMARIZE included."""
    assert isinstance(rows(store, query), list)


@pytest.mark.parametrize("query", REFUSED)
def test_all_else_is_refused(store, query):
    """What writes, reads files, attaches, changes settings, runs text as SQL or holds several statements is refused, undone."""
    home = str(store.path.parent)
    before = rows(store, "select count(*) as n, max(seq) as last from records")
    with pytest.raises(HeadwaterError) as caught:
        rows(store, query.replace("{home}", home))
    assert isinstance(caught.value, (Forbidden, Misused))
    assert rows(store, "select count(*) as n, max(seq) as last from records") == before
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["lineage.duckdb", "lineage.duckdb.wal", "secret.csv"]


def test_a_pivot_that_names_its_columns_is_answered(store):
    """PIVOT without them is two statements, and is told how to become one."""
    with pytest.raises(Forbidden, match="name them"):
        rows(store, "pivot records on kind using count(*)")
    assert list(rows(store, "pivot records on kind in ('decision') using count(*) as n group by flow")[0]) == ["flow", "decision_n"]


def test_the_writer_goes_on_beside_guarded_readers():
    """What readers are denied, the writer keeps: it lands while a reader's answer is open, which stays one snapshot."""
    with Store(":memory:", clock=lambda: 1) as store:
        queue = landings(sample_records())
        store.land(queue[:1])
        with reading(store, "from records") as reader:
            store.land(queue[1:])
            assert reader.read_all().num_rows == 10
        assert verify(store, in_flight_ok=False).ok


def test_a_query_without_end_is_stopped(store):
    """The time limit interrupts a query, says so, and neither the database nor the next reader notices."""
    with pytest.raises(Unavailable, match="ran longer than"):
        rows(store, "select sum(a.range * b.range) from range(100000000) a, range(100000000) b", time_limit_s=0.2)
    assert rows(store, "select 1 as one") == [{"one": 1}]


def test_a_reader_that_stops_early_lets_go(store):
    """An answer that is not read to its end holds nothing: no transaction, no thread of the time limit."""
    with reading(store, "select * from range(10000000)", time_limit_s=3600) as reader:
        reader.read_next_batch()
    deadline = time.monotonic() + 60
    while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


def test_a_query_that_wants_too_much_is_refused_by_name(tmp_path):
    """Memory and disk for spilling are bounded: a query beyond them ends with a clear problem, and the next one is answered."""
    bounds = {"memory_limit": "20MB", "max_temp_directory_size": "0KB", "threads": "1"}
    with duckdb.connect(str(tmp_path / "small.duckdb"), config=bounds) as small:
        with pytest.raises(Unavailable, match="more memory than it may have"):
            rows(small, "select range, md5(range::varchar) as m from range(3000000) order by m")
        assert rows(small, "select 1 as one") == [{"one": 1}]
    assert {"memory_limit", "max_temp_directory_size"} <= SETTINGS.keys()
