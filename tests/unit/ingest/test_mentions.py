"""What mentions a person in a text that nobody took apart."""

import json
from urllib.parse import quote

import pytest

from services.ingest.mentions import Mentions, digits, plain, readings, readings_of_form, stands

ADA = Mentions({"ada@example.com"}, {"4930123456", "491701111111"})


def is_spelled(text: str, of: Mentions = ADA) -> bool:
    return any(of.spelled(each) for each in readings(text))


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.com",
        "please write to ADA@Example.com.",
        "<ada@example.com>, mailto:ada@example.com?subject=tea",
        "it was -ada@example.com, or",
        '{"ada@example.com": {"a": 1}}',
        "https://shop.example/?email=ada%40example.com&x=1",
        "https://shop.example/?q=write+to+ada%40example.com",
        "https://a.example/?then=%2Fb%3Femail%3Dada%2540example.com",
        r'{"email": "\u0061da\u0040example.com"}',
        r'{"note": "write to\nada@example.com\nplease"}',
        json.dumps({"meta": json.dumps({"meta": json.dumps({"note": "to\nada@example.com"})})}),
        json.dumps({"meta": json.dumps({"link": quote("/?email=ada@example.com", safe="")})}),
    ],
)
def test_an_email_is_found_whatever_stands_around_it(text: str) -> None:
    assert is_spelled(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "xada@example.com",
        "x.ada@example.com",
        "tea+ada@example.com",
        "x-ada@example.com",
        "ada@example.com.example",
        "ada@example.community",
        "ada@example.com-shop.example",
        "https://shop.example/?email=tea%2Bada%40example.com",
        "ada at example.com",
    ],
)
def test_another_s_email_that_holds_it_is_not_it(text: str) -> None:
    assert not is_spelled(text)


def test_in_a_form_a_plus_is_a_space() -> None:
    assert any(ADA.spelled(each) for each in readings_of_form("note=write+to+ada@example.com"))
    hers = Mentions({"ada+tea@example.com"}, ())
    for form in ("email=ada%2Btea%40example.com", "email=ada+tea@example.com"):
        assert any(hers.spelled(each) for each in readings_of_form(form))


def test_a_name_that_is_no_email_is_looked_for_in_no_text() -> None:
    for name in ("ada", "@", "ada@", " "):
        assert not is_spelled(f"to {name} of tea", Mentions({name}, ()))


@pytest.mark.parametrize(("text", "found"), [("7", True), ("a/7?b", True), ("17,71 7", True), ("17,71", False)])
def test_an_identifier_stands_as_a_whole(text: str, *, found: bool) -> None:
    assert stands("7", text) == found


def test_how_they_are_compared() -> None:
    assert plain(" Ada Lovelace <ADA@example.com> ") == plain("ada@example.com") == "ada@example.com"
    assert plain("ada <") == "ada <"
    assert digits("+49 (0)30-12\u0663") == "4903012"


def test_reading_ends() -> None:
    assert list(readings("Plain")) == ["plain"]
    assert len(list(readings("%2525252525252525"))) == 5
    assert list(readings("\\")) == ["\\"]
