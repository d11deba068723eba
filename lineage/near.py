"""near: numbers as SQL conditions that zone maps prune: a list of them alone has DuckDB read the whole table."""

from collections.abc import Iterable, Iterator

APART = 200_000
"""Numbers farther apart than this are asked for by conditions of their own: reading on costs more than reading anew."""


def near(column: str, numbers: Iterable[int], *, apart: int = APART) -> Iterator[str]:
    """Conditions that together hold for the rows whose column has one of these numbers, each of neighbours among them."""
    group: list[int] = []
    for number in sorted(set(numbers)):
        if group and number - group[-1] > apart:
            yield _among(column, group)
            group = []
        group.append(number)
    if group:
        yield _among(column, group)


def _among(column: str, group: list[int]) -> str:
    if len(group) == 1:
        return f"{column} = {group[0]}"
    bounds = f"{column} BETWEEN {group[0]} AND {group[-1]}"
    if len(group) == group[-1] - group[0] + 1:
        return bounds
    return f"{bounds} AND {column} IN ({', '.join(map(str, group))})"
