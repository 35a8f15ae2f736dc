"""What `python -m handover prepare` reads of the connections that a person has filled in."""

from __future__ import annotations

import pytest

from handover.adoption.preparing import CannotPrepare
from handover.cli.prepare import _drafted


@pytest.mark.parametrize(("text", "said"), [
    (b'{"web_airflow": {\n "password": "sesame" "login": "x"}}', "no JSON: line 2: "),
    (b"\xff\xfesesame", "no text in UTF-8"),
    (b'["sesame"]', "no connections by name"),
])  # fmt: skip
def test_a_mistake_in_it_is_told_by_its_place_and_no_secret_is(tmp_path, text, said):
    file = tmp_path / "web.json"
    file.write_bytes(text)
    with pytest.raises(CannotPrepare) as told:
        _drafted(file)
    assert str(told.value).startswith(said) and "sesame" not in str(told.value)
