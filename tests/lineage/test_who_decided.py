"""The view `decisions` says who decided."""

import msgspec
import pytest

from headwater.lineage.migrations import MIGRATIONS
from headwater.lineage.record import fact
from headwater.lineage.store import Store
from headwater.lineage.testing import WALL, landings, name, sample_records, verdict

QUERY = 'SELECT agent, decided_by, version, model, judged_by FROM decisions'
DECISION = name("decision")


def with_data(kind, records, **data):
    """The records, those of a kind with this in their data."""
    return [msgspec.structs.replace(each, data={**each.data, **data}) if each.kind == kind else each for each in records]


def asked(by, model, ordinal):
    """A question to a model, after the sample's own."""
    data = {"model": model, "prompt": "?", "answer": "!", "by": by}
    return fact("model", "decide/recover", "choose", f"{DECISION}:m{ordinal}", logged=WALL + 161_000 + ordinal, data=data)


def who(records):
    with Store(":memory:", clock=lambda: 1) as store:
        for landing in landings(records, 7):
            store.land([landing])
        with store.cursor() as cursor:
            return cursor.execute(QUERY).fetchall()


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (sample_records(), ("recover", "recover", "1", "local", None)),
        ([each for each in sample_records() if each.kind != "model"], ("recover", "recover", "1", None, None)),
        ([*with_data("model", sample_records(), by="recover"), asked("recover", "better", 1)], ("recover", "recover", "1", "better", None)),
        (
            with_data("decision", with_data("model", sample_records(), by="recover"), by="rules", version="7"),
            ("recover", "rules", "7", None, None),
        ),
        (
            with_data("decision", [*with_data("model", sample_records(), by="recover"), asked("rules", "small", 1)], by="rules"),
            ("recover", "rules", "1", "small", None),
        ),
        (sample_records(state="approved"), ("recover", "recover", "1", "local", "ada")),
        (sample_records(state="waiting"), ("recover", "recover", "1", "local", None)),
        (
            [*sample_records(state="waiting"), *with_data("verdict", [verdict("approved")], accepted=False, refused="late")],
            ("recover", "recover", "1", "local", None),
        ),
    ],
    ids=["of old", "no model", "asked twice", "fallback without", "fallback with", "approved", "waiting", "refused"],
)  # fmt: skip
def test_who_decided_is_told(records, expected):
    """The agent or its fallback, the model that this one asked last and no other's, and the person whose verdict counted."""
    assert who(records) == [expected]


def test_a_file_of_the_form_before_tells_it_too(tmp_path):
    """The view is replaced when the file is opened: its columns are those before, in their places, and three more."""
    path = tmp_path / "lineage.duckdb"
    with Store(path, clock=lambda: 1) as store, store.cursor() as cursor:
        store.land(landings(sample_records(state="approved"), 1_000))
        new = [column for column, *_ in cursor.execute("DESCRIBE decisions").fetchall()]
        contents = next(each for each in MIGRATIONS if each.number == 5)
        cursor.execute(next(each for each in contents.statements if "VIEW decisions" in each))
        cursor.execute("DELETE FROM migrations WHERE number >= 10")
        old = [column for column, *_ in cursor.execute("DESCRIBE decisions").fetchall()]
    with Store(path, clock=lambda: 1) as store, store.cursor() as cursor:
        assert cursor.execute(QUERY).fetchall() == [("recover", "recover", "1", "local", "ada")]
        now = [column for column, *_ in cursor.execute("DESCRIBE decisions").fetchall()]
        assert now == new == [*old, "decided_by", "model", "judged_by"]
