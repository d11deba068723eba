"""The views that analysts ask."""

from headwater.lineage.store import Store


def test_no_column_of_a_view_needs_quotes():
    """Every column of every view can be selected by its plain name: none is a reserved word of SQL."""
    with Store(":memory:", clock=lambda: 1) as store, store.cursor() as cursor:
        views = [row[0] for row in cursor.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()]
        assert {"decisions", "reviews", "removals"} <= set(views)
        for view in views:
            for column in [row[0] for row in cursor.execute(f"DESCRIBE {view}").fetchall()]:
                cursor.execute(f"SELECT {column} FROM {view} LIMIT 0")
