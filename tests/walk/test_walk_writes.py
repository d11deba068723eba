"""Read your writes over REST: what a publisher's token names, its next search finds, whoever else publishes."""

import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

WORDS = ("ice", "mud", "reeds", "swans", "planks", "rope", "lantern", "tide")


def one_publisher(lake, seed, many, misses):
    """Publish on gauges of one's own, old and new, and look for each reading at once; a miss is noted with what came instead."""
    source = random.Random(seed)
    gauges = [lake.gauge() for _ in range(10)]
    with httpx.Client(base_url=lake.up.address, timeout=60) as http:
        for n in range(many):
            if source.random() < 0.3:
                gauges[source.randrange(10)] = lake.gauge()
            gauge, said = source.choice(gauges), f"{source.choice(WORDS)} {seed} {n}"
            published = http.post("/v1/events/readings", json={"id": said, "gauge": gauge, "metres": round(source.random(), 2)})
            assert published.status_code == 202, published.text
            token = published.json()["token"]
            asked = {"text": f"{gauge} says {said}", "after": [token], "wait": "60s", "limit": 5}
            if source.random() < 0.5:
                asked["where"] = {"gauge": gauge}
            else:
                asked["mode"] = "sparse"  # by words it comes first, for it has them all; both halves together may rank five others above it
            answer = http.post("/v1/search", json=asked)
            assert answer.status_code == 200, answer.text
            if token not in {hit["position"] for hit in answer.json()["results"]}:
                misses.append((token, said, answer.json()))


def read_your_writes(lake, publishers, many):
    misses = []
    with ThreadPoolExecutor(publishers) as pool:
        for each in [pool.submit(one_publisher, lake, seed, many // publishers, misses) for seed in range(publishers)]:
            each.result()
    assert misses == []


def test_what_was_published_is_found(lake):
    """A hundred times, four publishers at once: no miss."""
    read_your_writes(lake, 4, 100)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_what_was_published_is_found_ten_thousand_times(lake):
    """Ten thousand times, four publishers at once: no miss."""
    read_your_writes(lake, 4, 10_000)
