"""The broker's door: one place that makes Kafka clients, so that every property passes through and no secret is printed."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

from headwater.flows.secrets import secrets_of, without
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.topic import CATALOGUE, DECISIONS, HEADS, LINKS

LARGEST_MESSAGE = 20_000_000
"""Bytes of one message, key and headers included: a request to the gateway (16 MB) with what is added to it. The embedded broker
was seen to take 50 MB, and the client to fetch as much. `HEADWATER_KAFKA__MESSAGE_MAX_BYTES` says otherwise where a broker takes less."""
_FRAME = 100_000
"""A topic's limit counts what the protocol puts around a message too."""

EMBEDDED = "embedded-"
"""How the ids of embedded brokers begin."""
_ASK_S = 5.0
"""How long a new consumer waits to be told what kind of broker it is, if nobody was told so far."""

_log = structlog.get_logger("headwater.kafka")
C = TypeVar("C")


class Kafka:
    """How to reach one broker cluster: librdkafka properties, `bootstrap.servers` among them."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        if "bootstrap.servers" not in properties:
            raise Misused("HEADWATER_KAFKA__BOOTSTRAP_SERVERS is not set, yet other HEADWATER_KAFKA__ properties are")
        self.properties = dict(properties)
        self._secrets = secrets_of(self.properties)
        self._admin: AdminClient | None = None
        self._embedded: bool | None = None

    @property
    def address(self) -> str:
        return self.properties["bootstrap.servers"]

    @property
    def largest(self) -> int:
        """Bytes of the largest message that producers made here send."""
        try:
            return int(self.properties.get("message.max.bytes", LARGEST_MESSAGE))
        except ValueError:
            raise Misused(f"HEADWATER_KAFKA__MESSAGE_MAX_BYTES={self.properties['message.max.bytes']!r} is no number of bytes") from None

    @property
    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = self._client(AdminClient, {}, {})
        return self._admin

    def broker_id(self, timeout: float = 10.0) -> str:
        """The cluster's id. Raises Unavailable."""
        try:
            found = self.admin.list_topics(timeout=timeout).cluster_id
        except KafkaException as error:
            raise Unavailable(f"no broker answers at {self.address}: {self.told(error)}") from None
        if not found:
            raise Unavailable(f"the broker at {self.address} tells no cluster id")
        return str(found)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 if there is no such topic. Raises Unavailable."""
        return self.counts([topic]).get(topic, 0)

    def counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Name → number of partitions, of those topics that exist. Raises Unavailable."""
        known = self.topics()  # asking for one topic would create it
        return {name: known[name] for name in topics if name in known}

    def topics(self, timeout: float = 10.0) -> dict[str, int]:
        """Every topic there is, name → partitions. Raises Unavailable."""
        try:
            found = self.admin.list_topics(timeout=timeout).topics
        except KafkaException as error:
            raise Unavailable(f"no broker answers at {self.address}: {self.told(error)}") from None
        return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}

    def create(
        self,
        topics: Mapping[str, int],
        compact: Iterable[str] = (),
        *,
        loose: Collection[str] = (),
        settings: Mapping[str, Mapping[str, str]] | None = None,
    ) -> dict[str, int]:
        """Create topics that do not exist, name → partitions, and give the numbers that are there. Raises Misused, Unavailable.

        A topic of another size is refused, for the keys' order hangs on it; one of `loose` may have more, and is grown to what is wanted.
        Each takes messages as large as we send; a broker that does not let a topic say so gets it without, and keeps its own limit.
        `settings` are the broker's for a topic (`retention.ms`); of a topic that exists they are left as they are.
        """
        there = self.counts(topics)
        for name, count in there.items():
            if count < topics[name] and name in loose:
                self.grow(name, topics[name])
            elif count != topics[name] and name not in loose:
                raise Misused(
                    f"topic {name} has {count} partitions at the broker, the application declares {topics[name]}; "
                    f"partitions of a keyed topic never change in place: declare what is there, or see headwater topics migrate {name}"
                )
        missing = {name: count for name, count in topics.items() if name not in there}
        if missing:
            squeezed = {name: {"cleanup.policy": "compact"} for name in compact}
            configs = {name: {**squeezed.get(name, {}), **(settings or {}).get(name, {}), **_own_settings(name)} for name in missing}
            self._make(missing, configs)
        return {name: max(topics[name], there.get(name, 0)) for name in topics}

    def _make(self, missing: Mapping[str, int], configs: Mapping[str, dict[str, str]]) -> None:
        room = {"max.message.bytes": str(self.largest + _FRAME)}
        refused = self._create(missing, {name: {**config, **room} for name, config in configs.items()})
        if refused:
            _log.warning("the broker keeps its own limit of message sizes", topics=sorted(refused), why=next(iter(refused.values())))
            again = self._create({name: missing[name] for name in refused}, configs)
            for name, why in again.items():
                raise Unavailable(f"topic {name} could not be created: {why}")
        self._await(missing)

    def _create(self, topics: Mapping[str, int], configs: Mapping[str, dict[str, str]]) -> dict[str, str]:
        """Create topics; gives those whose configuration the broker does not accept, and why. Raises Unavailable."""
        refused: dict[str, str] = {}
        for name, future in self.admin.create_topics([NewTopic(name, n, config=configs[name]) for name, n in topics.items()]).items():
            try:
                future.result(30)
            except KafkaException as error:
                cause = error.args[0]
                if cause.code() in (KafkaError.INVALID_CONFIG, KafkaError.POLICY_VIOLATION):
                    refused[name] = self.told(cause)
                elif cause.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise Unavailable(f"topic {name} could not be created: {self.told(cause)}") from None
        return refused

    def _await(self, wanted: Mapping[str, int]) -> None:
        for _ in range(100):
            there = self.counts(wanted)
            if all(there.get(name, 0) >= count for name, count in wanted.items()):
                return
            time.sleep(0.05)
        raise Unavailable(f"topics {', '.join(sorted(wanted))} were created or grown, but the broker does not show it")

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions. Raises Misused (the broker cannot), Unavailable."""
        for future in self.admin.create_partitions([NewPartitions(topic, partitions)]).values():
            try:
                future.result(30)
            except KafkaException as error:
                cause = error.args[0]
                if self.partitions(topic) >= partitions:  # another process was first
                    return
                kind = Misused if cause.code() == KafkaError._UNSUPPORTED_FEATURE else Unavailable
                raise kind(f"topic {topic} could not be grown to {partitions} partitions: {self.told(cause)}") from None
        self._await({topic: partitions})

    def settings(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Topic → the broker's settings for it, as it tells them. Raises Unavailable."""
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
        found: dict[str, dict[str, str]] = {}
        for resource, future in (self.admin.describe_configs(asked) if asked else {}).items():
            try:
                found[resource.name] = {name: entry.value for name, entry in future.result(30).items() if entry.value is not None}
            except KafkaException as error:
                why = self.told(error)
                raise Unavailable(f"the broker does not tell the settings of topic {resource.name}: {why}") from None
        return found

    def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """Change a topic's settings, and no others of it. Raises Unavailable."""
        entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        for future in self.admin.incremental_alter_configs([resource]).values():
            try:
                future.result(30)
            except KafkaException as error:
                raise Unavailable(f"the settings of topic {topic} could not be changed: {self.told(error)}") from None

    def producer(self, **more: Any) -> Producer:
        """An idempotent producer: acknowledged by all replicas, kept trying for as long as it lives."""
        return self._client(
            Producer,
            {
                "enable.idempotence": True,
                "linger.ms": 2,
                "partitioner": "murmur2_random",  # as Java clients do; the default scatters empty keys
                "message.timeout.ms": 0,
                "allow.auto.create.topics": False,  # a broker that begins anew must not make it with partitions as it likes
                "queue.buffering.max.messages": 500_000,
                "message.max.bytes": LARGEST_MESSAGE,  # batches stay below 1 MB (`batch.size`): only what is larger by itself goes larger
            },
            _dotted(more),
        )

    def isolation(self) -> str:
        """Which messages flows read: those of committed transactions; from the embedded broker all there are.

        That one shows what was aborted anyway, so nothing is ever taken back there. But of transactions that overlapped it may keep
        account of one that is long committed, until somebody next commits to its partitions: its messages, and all that come after
        them there, no reader of committed messages sees meanwhile. While the broker does not answer: as of any other.
        """
        return "read_uncommitted" if self.embedded() else "read_committed"

    def embedded(self) -> bool:
        """Whether the embedded broker answers there. While none does: no."""
        if self._embedded is None:
            try:
                self._embedded = is_embedded(self.broker_id(_ASK_S))
            except Unavailable:
                return False
        return self._embedded

    def consumer(self, group: str, **more: Any) -> Consumer:
        """A consumer for `assign`: reports the end of partitions, never resets an offset on its own, commits nothing on its own.

        These three no property changes: what is accounted for hangs on them.
        """
        always = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "error", "group.id": group}
        return self._client(
            Consumer,
            {
                "fetch.wait.max.ms": 10,  # the embedded broker answers a fetch late, not when data comes
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 16_384,
                "fetch.queue.backoff.ms": 5,  # the default rests a whole second once the queue is full: six times slower
                "isolation.level": self.isolation(),
                # A fetch brings its first message whole however large (KIP-74); this raises what a whole answer may hold, and it alone.
                "message.max.bytes": LARGEST_MESSAGE,
            },
            {**always, **_dotted(more)},
        )

    def _client(self, make: Callable[[dict[str, Any]], C], defaults: Mapping[str, Any], ours: Mapping[str, Any]) -> C:
        """A client with these defaults, every property that was set, and what we alone say. Raises Misused, naming the property."""
        try:
            return make({**defaults, **self.properties, **ours, "logger": _Quiet(self._secrets)})
        except KafkaException as error:
            raise Misused(f"the Kafka client refuses a HEADWATER_KAFKA__ property: {self.told(error)}") from None

    def told(self, error: KafkaException | KafkaError) -> str:
        """What an error says, without the secrets the client was given."""
        cause = error.args[0] if isinstance(error, KafkaException) else error
        return self.redacted(cause.str())

    def redacted(self, text: str) -> str:
        """What the client says, without the secrets it was given."""
        return without(text, self._secrets)


def is_embedded(broker: str) -> bool:
    """Whether a broker's id is that of an embedded one, here or in another process."""
    return broker.startswith(EMBEDDED)


def group_of(app: str, flow: str) -> str:
    """The consumer group that a flow of an application commits its offsets to."""
    return f"headwater-{app}-{flow.replace('/', '-')}"


class _Quiet:
    """A logger that hands librdkafka's lines to ours at debug level, without secrets.

    It knows no `Kafka`: else one that nobody holds, and its client's threads, would wait for the cycle collector.
    """

    def __init__(self, secrets: list[str]) -> None:
        self._secrets = secrets

    def log(self, level: int, text: str, *rest: Any) -> None:
        _log.debug("librdkafka", line=without(text % rest if rest else text, self._secrets))


def _own_settings(name: str) -> dict[str, str]:
    """The decisions are the journal: they stay for as long as the topic does. So does what is remembered by name: of topics, of owners."""
    kept, newest = {"retention.ms": "-1"}, {"cleanup.policy": "compact"}
    return {DECISIONS: kept, HEADS: kept, CATALOGUE: newest, LINKS: newest}.get(name, {})


def _dotted(more: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in more.items()}
