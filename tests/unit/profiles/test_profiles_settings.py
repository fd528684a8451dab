"""What names nobody, as the settings list it."""

import pytest

from services.profiles.settings import ProfilesSettings, listed
from services.profiles.work import rules_of


@pytest.mark.parametrize("text", ["NoReply@, @nomail.de,", '["NoReply@", "@nomail.de"]'])
def test_junk_is_listed_by_commas_or_as_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGULARS_JUNK_EMAILS", text)
    monkeypatch.setenv("REGULARS_JUNK_PHONES", "[]")
    junk = rules_of(ProfilesSettings()).junk
    assert junk.emails == {"noreply@", "@nomail.de"}
    assert junk.phones == frozenset()


def test_other_json_is_told() -> None:
    with pytest.raises(ValueError, match="neither by commas nor a JSON list of texts"):
        listed("[1]")
