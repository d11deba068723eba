"""A schema registry, where one is configured: the JSON schema of each topic's values is registered there as `TOPIC-value`.

Whether a new schema goes with the former ones is for the registry to say (its compatibility level); a refusal is a refusal to start.
The REST interface is Confluent's, which Redpanda, Karapace and Apicurio speak too; certificates are found as httpx does (`SSL_CERT_FILE`).
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from headwater.flows.settings import Settings
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.schema import schema_of
from headwater.lineage.topic import Topic

TIMEOUT_S = 15.0
_MEDIA = "application/vnd.schemaregistry.v1+json"
_NO_SUBJECT, _NO_VERSION = 40401, 40402
_INVALID = (409, 422)


class Registry:
    """One registry. Neither user nor password appears in what it says."""

    def __init__(self, url: str, user: str = "", password: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {"accept": _MEDIA, "content-type": _MEDIA}
        self._client = httpx.Client(auth=(user, password) if user else None, timeout=TIMEOUT_S, transport=transport, headers=headers)

    def check(self, topics: Iterable[Topic[Any]]) -> None:
        """Ask whether the schemas would be taken. Raises Misused with the registry's reason, Unavailable."""
        refused = [told for topic in topics if (told := self._refusal(topic))]
        if refused:
            raise Misused("\n".join(refused))

    def register(self, topics: Iterable[Topic[Any]]) -> dict[str, int]:
        """Register the schemas; gives topic → schema id. One that is there already keeps its id. Raises Misused, Unavailable."""
        return {topic.name: self._register(topic) for topic in topics}

    def _refusal(self, topic: Topic[Any]) -> str:
        path = f"/compatibility/subjects/{_subject(topic)}/versions/latest"
        response = self._post(path, topic, verbose="true")
        if _code(response) in (_NO_SUBJECT, _NO_VERSION):
            return ""
        answer = self._answer(response, topic)
        if answer.get("is_compatible", False):
            return ""
        reasons = "; ".join(str(each) for each in answer.get("messages") or ["no reason given"])
        return (
            f"topic {topic.name}: the schema registry does not take its model {topic.model.__name__} as a successor of what is registered "
            f"as {_subject(topic)}: {reasons}. Keep what the former one says, or change the subject's compatibility there"
        )

    def _register(self, topic: Topic[Any]) -> int:
        answer = self._answer(self._post(f"/subjects/{_subject(topic)}/versions", topic), topic)
        try:
            return int(answer["id"])
        except (KeyError, TypeError, ValueError):
            raise Unavailable(f"the schema registry at {self._url} told no id for topic {topic.name}; is it one?") from None

    def _post(self, path: str, topic: Topic[Any], **query: str) -> httpx.Response:
        body = {"schemaType": "JSON", "schema": msgspec.json.encode(schema_of(topic.model)).decode()}
        try:
            return self._client.post(f"{self._url}{path}", params=query, content=msgspec.json.encode(body))
        except httpx.HTTPError as error:
            told = f"the schema registry at {self._url} (HEADWATER_SCHEMA_REGISTRY__URL) does not answer: {error}"
            raise Unavailable(told) from None

    def _answer(self, response: httpx.Response, topic: Topic[Any]) -> Mapping[str, Any]:
        if response.status_code in _INVALID:
            raise Misused(f"topic {topic.name}: the schema registry refuses its schema: {_message(response)}")
        if response.status_code in (401, 403):
            raise Misused(
                f"the schema registry at {self._url} refuses us ({response.status_code}): "
                "see HEADWATER_SCHEMA_REGISTRY__USER and HEADWATER_SCHEMA_REGISTRY__PASSWORD"
            )
        if response.is_error:
            told = f"{response.status_code} {_message(response)}"
            raise Unavailable(f"the schema registry at {self._url}, asked about topic {topic.name}, answers {told}")
        found = _json(response)
        if not isinstance(found, Mapping):
            raise Unavailable(f"the schema registry at {self._url} answers no JSON object; is it one?")
        return found

    def close(self) -> None:
        self._client.close()


def registry_of(settings: Settings) -> Registry | None:
    """The registry that the settings name, if any."""
    if not settings.registry_url:
        return None
    return Registry(settings.registry_url, settings.registry_user, settings.registry_password)


def _subject(topic: Topic[Any]) -> str:
    return quote(f"{topic.name}-value", safe="")


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _code(response: httpx.Response) -> int:
    """The registry's own number of an error; 0 if there is none."""
    body = _json(response)
    return int(body.get("error_code", 0)) if response.is_error and isinstance(body, Mapping) else 0


def _message(response: httpx.Response) -> str:
    body = _json(response)
    return str(body.get("message", ""))[:1000] if isinstance(body, Mapping) else response.text[:200]
