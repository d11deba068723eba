"""A process that does one thing for each line it is told, and answers each with a line.

Arguments: BROKER_ID [BROKER TOPIC NUMBER PARTITIONS]

fill   begin a transaction with a message in each partition
end    commit it, in turn
hold   take a turn, and keep it until the next line
PATH   write two lines to that file in each of fifty turns, with a rest between the two
"""

import os
import sys
import time
from typing import Any

from headwater.flows.kafka import Kafka
from headwater.flows.turns import in_turn


def fill(producer: Any, topic: str, partitions: int) -> None:
    producer.begin_transaction()
    for partition in range(partitions):
        producer.produce(topic, b"{}", b"k", partition=partition)
    producer.flush(30)


def write(broker: str, path: str) -> None:
    with open(path, "ab", buffering=0) as file:
        for _ in range(50):
            with in_turn(broker):
                file.write(f"begin {os.getpid()}\n".encode())
                time.sleep(0.0005)
                file.write(f"end {os.getpid()}\n".encode())


def main(broker: str, address: str = "", topic: str = "", number: str = "", partitions: str = "0") -> None:
    if address:
        producer = Kafka({"bootstrap.servers": address}).producer(transactional_id=f"{topic}-{number}", linger_ms=0)
        producer.init_transactions(30)
    print("ready", flush=True)
    for line in sys.stdin:
        match line.strip():
            case "fill":
                fill(producer, topic, int(partitions))
            case "end":
                with in_turn(broker):
                    producer.commit_transaction(30)
            case "hold":
                with in_turn(broker):
                    print("done", flush=True)
                    sys.stdin.readline()
            case path:
                write(broker, path)
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
