"""Reads Regulars' events from Kafka, with nothing but aiokafka: `python examples/consume.py 127.0.0.1:9092 customers`.

The values are JSON as docs/contracts/<topic>.json says, the headers CloudEvents 1.0 in binary mode. Within a partition
`seq` counts the events: what is not higher than the last one was sent again and is to be left out.
"""

import argparse
import asyncio
import json

from aiokafka import AIOKafkaConsumer


async def consume(servers: str, topic: str, limit: int | None) -> None:
    """Prints each event on a line, from the first one that Kafka keeps."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, group_id="example", auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    last: dict[int, int] = {}
    printed = 0
    try:
        async for record in consumer:
            attributes = {name: value.decode() for name, value in record.headers}
            seq = int(attributes["seq"])
            if seq <= last.get(record.partition, -1):
                continue
            last[record.partition] = seq
            if attributes["ce_type"] == "partition.opened":
                # The topic got more partitions; this one's keys were in another before.
                continue
            about = {name.removeprefix("ce_"): value for name, value in attributes.items() if name.startswith("ce_")}
            print(json.dumps(about | {"partition": record.partition, "data": json.loads(record.value)}), flush=True)
            printed += 1
            if printed == limit:
                break
    finally:
        await consumer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Reads Regulars' events from Kafka.")
    parser.add_argument("servers", help="host:port, by commas")
    parser.add_argument("topic", help="commerce, customers or messages")
    parser.add_argument("--limit", type=int, help="stop after so many")
    asked = parser.parse_args()
    asyncio.run(consume(asked.servers, asked.topic, asked.limit))
