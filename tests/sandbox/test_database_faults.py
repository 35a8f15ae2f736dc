"""The fault table as a command: what it says of stalls and seconds is this machine's, all else has to be so."""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.database_faults.__main__ import FILE, main


def test_every_tenth_step_comes_out_as_it_has_to(tmp_path: Path) -> None:
    main(["--home", str(tmp_path), "--every", "10", "--only", "failing,killed,damaged,failover"])
    told = json.loads((tmp_path / FILE).read_text())
    assert told.keys() == {"failing", "killed", "damaged", "failover", "good"}
    assert {one["step"]: one["wrong"] for part in told.values() if part not in (True, False) for one in part["found"]
            if one["wrong"]} == {}  # fmt: skip
