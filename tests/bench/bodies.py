"""What the records of the journal compress to, and what that costs the route of every webhook.

    python -m tests.bench.bodies [DELIVERIES]

A dictionary is made of other deliveries of the same shop, by platform: of a shop that it was not made of it helps less.
"""

import sys
import zlib
from collections.abc import Callable, Sequence
from random import Random
from time import process_time

import cramjam
import msgspec

from tests.bench.shop import sent

ROUNDS = 3
WINDOW = 32 * 1024
RAW = -zlib.MAX_WBITS

Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def zlib_with(level: int, dictionary: bytes) -> Codec:
    """Deflate that knows a text beforehand."""

    def compress(data: bytes) -> bytes:
        deflate = zlib.compressobj(level, zlib.DEFLATED, RAW, zdict=dictionary)
        return deflate.compress(data) + deflate.flush()

    return compress, lambda data: zlib.decompressobj(RAW, dictionary).decompress(data)


def codecs(dictionary: bytes) -> dict[str, Codec]:
    """Those of the standard library and of what is installed anyway."""
    return {
        "snappy (ours)": (
            lambda data: bytes(cramjam.snappy.compress_raw(data)),
            lambda data: bytes(cramjam.snappy.decompress_raw(data)),
        ),
        "lz4": (
            lambda data: bytes(cramjam.lz4.compress_block(data)),
            lambda data: bytes(cramjam.lz4.decompress_block(data)),
        ),
        **{
            f"zstd {level}": (
                lambda data, level=level: bytes(cramjam.zstd.compress(data, level=level)),  # type: ignore[misc]
                lambda data: bytes(cramjam.zstd.decompress(data)),
            )
            for level in (-5, 1, 3)
        },
        **{
            f"zlib {level}": (
                lambda data, level=level: zlib.compress(data, level, RAW),  # type: ignore[misc]
                lambda data: zlib.decompress(data, RAW),
            )
            for level in (1, 6)
        },
        **{f"zlib {level}, dictionary of 32 KiB": zlib_with(level, dictionary) for level in (1, 6)},
    }


def microseconds(once: Callable[[bytes], bytes], given: Sequence[bytes]) -> tuple[float, list[bytes]]:
    """CPU time of each, the best of some rounds; and what came out."""
    best, out = float("inf"), []
    for _ in range(ROUNDS):
        began = process_time()
        out = [once(each) for each in given]
        best = min(best, process_time() - began)
    return best / len(given) * 1e6, out


def bench(many: int) -> None:
    """Prints the table."""
    packed: dict[str, list[bytes]] = {"shopify": [], "woocommerce": []}
    for each in sent(many, {"shopify": "st_1", "woocommerce": "st_2"}):
        packed[each.delivery.platform].append(msgspec.msgpack.encode(each.delivery))
    print("| codec | ratio | bytes a record | µs to compress | µs back |\n|---|---|---|---|---|")
    measured: dict[str, list[tuple[int, int, float, float, int]]] = {}
    for records in packed.values():
        Random(1).shuffle(records)
        dictionary, rest = b"".join(records[: len(records) // 2])[-WINDOW:], records[len(records) // 2 :]
        for name, (compress, decompress) in codecs(dictionary).items():
            there, compressed = microseconds(compress, rest)
            back, again = microseconds(decompress, compressed)
            if again != rest:
                sys.exit(f"{name} gives back something else")
            row = (sum(map(len, rest)), sum(map(len, compressed)), there, back, len(rest))
            measured.setdefault(name, []).append(row)
    for name, rows in measured.items():
        plain, small, n = (sum(row[i] for row in rows) for i in (0, 1, 4))
        there, back = (sum(row[i] * row[4] for row in rows) / n for i in (2, 3))
        print(f"| {name} | {plain / small:.1f} | {small / n:,.0f} | {there:.0f} | {back:.0f} |", flush=True)


if __name__ == "__main__":
    bench(int(sys.argv[1]) if len(sys.argv) > 1 else 12_000)
