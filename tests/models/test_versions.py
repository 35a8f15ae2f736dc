from __future__ import annotations

import pytest

from handover.models.versions import same_version


@pytest.mark.parametrize(("answered", "wanted", "same"), [
    ("v1.1.0", "1.1.0", True), ("1.1.0", "v1.1.0", True), ("1.1.0+5f3a91c", "v1.1.0", True),
    ("1.1.0", "v1.1.0+5f3a91c", True), ("1.1.0+5f3a91c", "v1.1.0+5f3a91c", True), (" 1.1.0\n", "1.1.0", True),
    ("1.1.0+5f3a91c", "v1.1.0+other", False), ("1.1.0-rc.1", "1.1.0", False), ("1.1.0-rc.1+x", "v1.1.0-rc.1", True),
    ("1.1", "1.1.0", False), ("", "1.1.0", False), (None, "1.1.0", False), ("11.1.0", "1.1.0", False),
])  # fmt: skip
def test_which_names_mean_the_same_version(answered, wanted, same):
    assert same_version(answered, wanted) is same
