"""Bulk operations of the simulated shop's Admin API: what it prepares, and the file that it makes, on another host."""

import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from regulars.shop.shopify_parts import Json

FileMood = int | None
"""How a request for the file is taken: with a status, or well."""
Status = Literal["COMPLETED", "FAILED", "CANCELED", "EXPIRED"]
_ITEMS = {"lineItems": "LineItem", "shippingLines": "ShippingLine", "variants": "ProductVariant"}


class BulkOperations:
    """One at a time; each is through after it was looked at some times."""

    def __init__(self, objects: Callable[[str, str], list[Json]]) -> None:
        """`objects`: of a list's name in the schema and a window, as they are printed, their lists whole."""
        self._objects = objects
        self.looks = 2
        """At an operation, until it is through."""
        self.ends: Status = "COMPLETED"
        self.refusal: str | None = None
        """Code of the error that the next ones are refused with."""
        self.operations: list[Json] = []
        self.spoil: Callable[[list[bytes]], list[bytes]] = lambda lines: lines
        """What becomes of the lines of the file."""
        self.files_at = ""
        """Scheme, host and port where the files are."""
        self.moods: deque[FileMood] = deque()
        """Of the requests for files to come."""
        self.breaks: deque[int] = deque()
        """After so many bytes the connection of the requests to come ends; none: when all is sent."""
        self.ranges = True
        """Whether a part of a file can be asked for."""
        self.requests: list[Request] = []
        """For files."""
        self._files: dict[str, bytes] = {}
        self.files = Starlette(routes=[Route("/bulk/{name}", self._file)])

    def run(self, text: str) -> Json:
        """What `bulkOperationRunQuery` answers."""
        refusal = self.refusal or _refusal(text)
        if refusal is None and self.operations and self.operations[-1]["status"] in {"CREATED", "RUNNING", "CANCELING"}:
            refusal = "OPERATION_IN_PROGRESS"
        if refusal is not None:
            return {"bulkOperation": None, "userErrors": [{"code": refusal}]}
        begun = self.begin(text)
        return {"bulkOperation": begun, "userErrors": []}

    def begin(self, text: str) -> Json:
        """One that somebody has begun."""
        id_ = f"gid://shopify/BulkOperation/{len(self.operations) + 1}"
        operation = {"id": id_, "status": "CREATED", "query": text, "rootObjectCount": "0", "looks": 0}
        self.operations.append(operation | {"errorCode": None, "fileSize": None, "url": None})
        return self.operations[-1]

    def cancel(self, id_: str) -> Json:
        """What `bulkOperationCancel` answers; it takes until the next look."""
        found = next((each for each in self.operations if each["id"] == id_), None)
        if found is None or found["status"] not in {"CREATED", "RUNNING"}:
            return {"bulkOperation": found, "userErrors": [{"message": "It cannot be canceled"}]}
        found["status"] = "CANCELING"
        return {"bulkOperation": found, "userErrors": []}

    def last(self) -> Json | None:
        """What `currentBulkOperation` answers."""
        if not self.operations:
            return None
        told = {**self.operations[-1]}
        if told["status"] == "CANCELING":
            self.operations[-1]["status"] = "CANCELED"
        return told

    def look(self, id_: str) -> Json | None:
        """How far it is, which is further each time."""
        found = next((each for each in self.operations if each["id"] == id_), None)
        if found is not None and found["status"] in {"CREATED", "RUNNING"}:
            found["looks"] += 1
            found["status"] = "RUNNING"
            if found["looks"] >= self.looks:
                self._end(found)
        return found

    def _end(self, operation: Json) -> None:
        operation["status"] = self.ends
        if self.ends != "COMPLETED":
            operation["errorCode"] = "TIMEOUT" if self.ends == "FAILED" else None
            return
        asked = re.search(r"\{ (\w+)\(query: \"([^\"]*)\"\)", operation["query"])
        assert asked is not None  # noqa: S101 - `_refusal` has seen to it
        objects = self._objects(asked[1], asked[2])
        lines = self.spoil([line for each in objects for line in _lines(each)])
        name = f"{operation['id'].rpartition('/')[2]}.jsonl"
        content = self._files[name] = b"".join(line + b"\n" for line in lines)
        operation["rootObjectCount"], operation["fileSize"] = str(len(objects)), str(len(content))
        operation["url"] = f"{self.files_at}/bulk/{name}?Signature=abc" if content else None

    async def _file(self, request: Request) -> Response:
        self.requests.append(request)
        mood = self.moods.popleft() if self.moods else None
        if mood is not None:
            return Response("<Error>ExpiredToken</Error>", mood, {"location": "http://127.0.0.1:1/"})
        content = self._files[request.path_params["name"]]
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", "")) if self.ranges else None
        begin = int(wanted[1]) if wanted else 0
        headers = {"content-length": str(len(content) - begin)}
        if wanted:
            headers["content-range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        end = begin + self.breaks.popleft() if self.breaks else len(content)
        return StreamingResponse(_chunks(content[begin:end]), 206 if wanted else 200, headers)


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 1000):
        yield content[at : at + 1000]


def _lines(printed: Json) -> Iterable[bytes]:
    """The object, and behind it what its lists hold."""
    whole = {name: value for name, value in printed.items() if name not in _ITEMS}
    if "refunds" in whole:
        whole["refunds"] = [{"id": each["id"]} for each in whole["refunds"]]
    yield json.dumps(whole).encode()
    for name, type_ in _ITEMS.items():
        for item in printed.get(name, ()):
            of = {"__typename": item.get("__typename", type_), "__parentId": printed["id"]}
            yield json.dumps(item | of).encode()


def _refusal(text: str) -> str | None:
    """What may not stand in a query in bulk: pages, more than five lists, and lists of pages within plain ones."""
    lists = text.count("edges")
    within = re.search(r"(refunds|fulfillments) \{[^{}]*(\{[^{}]*\}[^{}]*)*edges", text)
    return "INVALID" if "nodes" in text or "$" in text or not 0 < lists <= 5 or within else None  # noqa: PLR2004
