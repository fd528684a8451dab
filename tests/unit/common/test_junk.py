"""What names nobody, as the settings list it."""

import pytest

from libs.common.junk import listed_emails, listed_phones
from libs.common.settings import CommonSettings


@pytest.mark.parametrize("text", ["NoReply@, @nomail.de,", '["NoReply@", "@nomail.de"]'])
def test_junk_is_listed_by_commas_or_as_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGULARS_JUNK_EMAILS", text)
    monkeypatch.setenv("REGULARS_JUNK_PHONES", "[]")
    junk = CommonSettings().junk
    assert junk.emails == {"noreply@", "@nomail.de"}
    assert junk.phones == frozenset()


def test_other_json_is_told() -> None:
    with pytest.raises(ValueError, match="neither by commas nor a JSON list of texts"):
        listed_emails("[1]")


def test_what_names_nothing_is_told() -> None:
    with pytest.raises(ValueError, match="an address, a local part"):
        listed_emails("nobody")
    with pytest.raises(ValueError, match="digits alone"):
        listed_phones("+49 151")
