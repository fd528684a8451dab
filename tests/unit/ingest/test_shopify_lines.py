"""What is read of the file of a bulk operation, however it comes and wherever it is cut."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.platforms import shopify_lines
from services.ingest.platforms.port import Unavailable
from services.ingest.platforms.shopify_lines import NOT_READ, Reader, Taken

Told = list[tuple[str, list[str]]]


def order(n: int, items: int) -> list[bytes]:
    parent = f"gid://shopify/Order/{n}"
    lines = [{"id": parent, "name": "ünï"}] + [
        {"id": f"gid://shopify/LineItem/{n}-{place}", "__typename": "LineItem", "__parentId": parent}
        for place in range(items)
    ]
    return [json.dumps(each, ensure_ascii=False).encode() for each in lines]


def file_of(*counts: int) -> bytes:
    return b"".join(line + b"\n" for n, items in enumerate(counts) for line in order(n, items))


def ids(taken: Taken) -> Told:
    return [(each.id, [json.loads(item.raw)["id"] for item in each.items]) for each in taken.families]


async def chunks(content: bytes, sizes: Iterator[int], breaks: int | None) -> AsyncIterator[bytes]:
    at, end = 0, len(content) if breaks is None else min(breaks, len(content))
    while at < end:
        size = next(sizes)
        yield content[at : min(at + size, end)]
        at += size
    if end < len(content):
        raise Unavailable("cut")


def read(content: bytes, size: int = 50, cuts: Sequence[int] = ()) -> tuple[Told, set[str], list[str]]:
    """All of it, piece by piece, as it is gone on with after each cut."""
    left = iter(cuts)
    offset, within, found, asked, broken = 0, False, list[tuple[str, list[str]]](), set[str](), list[str]()

    def sizes() -> Iterator[int]:
        while True:
            yield size

    while True:
        source = chunks(content[offset:], sizes(), next(left, None))
        try:
            taken = asyncio.run(Reader(offset, within=within).take(source, len(content)))
        except Unavailable:
            continue
        found += ids(taken)
        asked |= taken.asked
        broken += taken.broken
        if taken.ended:
            return found, asked, broken
        assert taken.offset >= offset
        offset, within = taken.offset, taken.within


@given(
    counts=st.lists(st.integers(0, 4), max_size=12),
    size=st.integers(1, 300),
    cuts=st.lists(st.integers(0, 1500), max_size=6),
    end=st.booleans(),
)
def test_wherever_it_is_cut_each_object_is_taken_once_and_whole(
    *, counts: list[int], size: int, cuts: list[int], end: bool
) -> None:
    content = file_of(*counts)
    whole = [
        (f"gid://shopify/Order/{n}", [f"gid://shopify/LineItem/{n}-{place}" for place in range(items)])
        for n, items in enumerate(counts)
    ]
    assert read(content if end else content.rstrip(b"\n"), size, cuts) == (whole, set(), [])


def test_a_piece_ends_behind_so_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify_lines, "TAKEN", 2)
    content = file_of(1, 1, 1)
    first = asyncio.run(Reader(0, within=False).take(chunks(content, iter([10**6]), None), len(content)))
    assert (len(first.families), first.ended, first.offset) == (
        2,
        False,
        content.index(b'{"id": "gid://shopify/Order/2'),
    )


def test_a_line_that_cannot_be_read_puts_what_stands_before_in_doubt() -> None:
    lines = [*order(0, 1), *order(1, 2), *order(2, 1)]
    for spoilt, asked in [(1, {0}), (2, {0, 1}), (3, {1}), (5, {1, 2})]:
        content = b"".join((b"<oops" if n == spoilt else line) + b"\n" for n, line in enumerate(lines))
        found, in_doubt, broken = read(content)
        assert in_doubt == {f"gid://shopify/Order/{n}" for n in asked}
        assert {id_ for id_, _ in found} == {f"gid://shopify/Order/{n}" for n in {0, 1, 2} - asked}
        assert broken == [NOT_READ]


def test_a_line_without_end_is_passed_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify_lines, "LARGEST", 500)
    content = file_of(1) + b'{"id": "' + b"x" * 5000 + b'"}\n' + file_of(1, 1)
    found, asked, broken = read(content, 100, [2000, 1500, 700])
    assert (asked, broken) == ({"gid://shopify/Order/0"}, [shopify_lines.TOO_LARGE])
    assert [id_ for id_, _ in found] == ["gid://shopify/Order/0", "gid://shopify/Order/1"]


def test_an_object_whose_parts_have_no_end_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify_lines, "LARGEST", 500)
    assert read(file_of(30, 1)) == (
        [("gid://shopify/Order/1", ["gid://shopify/LineItem/1-0"])],
        set(),
        [shopify_lines.TOO_LARGE],
    )


def test_items_that_stand_apart_from_their_objects_have_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify_lines, "ASKED", 3)
    parents = [order(n, 0)[0] for n in range(10)]
    items = [order(n, 1)[1] for n in range(10)]
    _, asked, broken = read(b"\n".join([*parents, *items]))
    # Of the last one, its own item is not the first that stands behind it.
    assert asked == {f"gid://shopify/Order/{n}" for n in range(10)}
    assert broken == []
