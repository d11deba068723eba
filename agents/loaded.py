"""A document that people write: JSON or YAML, as JSON values."""

import functools
import json
from pathlib import Path
from typing import Any

import yaml

from headwater.lineage.errors import Misused


def loaded(path: Path, what: str) -> Any:
    """What the file says. Raises Misused, naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misused(f"{what}: cannot read {path}: {error.strerror}") from None
    try:
        if path.suffix in (".yaml", ".yml"):
            return yaml.load(text, Loader=_plain_loader())  # noqa: S506  a SafeLoader that reads less
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misused(f"{what}: {path} is neither JSON nor YAML: {error}") from None


@functools.cache
def _plain_loader() -> Any:
    """YAML as JSON has it: dates and times stay texts."""
    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """See above; errors are ValueErrors."""

        def get_single_data(self) -> Any:
            try:
                return super().get_single_data()
            except yaml.YAMLError as error:
                raise ValueError(" ".join(str(error).split())) from None

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
