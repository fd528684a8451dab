"""Structs to bytes and back. Every topic is JSON but the journal, whose bodies stay the bytes that came."""

from functools import cache
from typing import Any

import cramjam
import msgspec

from libs.common.contracts.topics import TOPICS

_json = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder()


class Undecodable(ValueError):
    """The bytes are not what the contract says, or there is no such type in the topic."""


def encode(topic: str, data: msgspec.Struct) -> bytes:
    """The record's data."""
    if topic == "journal":
        return bytes(cramjam.snappy.compress_raw(_pack.encode(data)))
    return _json.encode(data)


def decode(topic: str, event_type: str, data: bytes) -> Any:
    """The typed Struct. Raises Undecodable."""
    decoder = _decoder(topic, event_type)
    if decoder is None:
        raise Undecodable(f"no contract for {event_type} in {topic}")
    try:
        if topic == "journal":
            data = bytes(cramjam.snappy.decompress_raw(data))
        return decoder.decode(data)
    except (msgspec.MsgspecError, cramjam.DecompressionError, UnicodeDecodeError) as error:
        raise Undecodable(f"{event_type}: {error}") from error


@cache
def _decoder(topic: str, event_type: str) -> Any:
    struct = TOPICS[topic].types.get(event_type)
    if struct is None:
        return None
    return msgspec.msgpack.Decoder(struct) if topic == "journal" else msgspec.json.Decoder(struct)
