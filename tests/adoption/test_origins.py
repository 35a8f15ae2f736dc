"""Where the answers of a service say which version gave them."""

from __future__ import annotations

import json

import pytest

from handover.adoption.origins import find_origin
from handover.ports.kube import PodAnswer


def answer(body="", **headers):
    text = json.dumps(body) if isinstance(body, dict) else body
    return PodAnswer(text, {name.replace("_", "-"): value for name, value in headers.items()})


PODINFO = {
    "/readyz": answer({"status": "OK"}, content_type="application/json"),
    "/": answer({"hostname": "web-1", "version": "6.9.2", "message": "greetings from podinfo v6.9.2"}),
    "/version": answer({"version": "6.9.2", "commit": "unknown"}),
}


@pytest.mark.parametrize(("answers", "tag", "found"), [
    ({"/health": answer(x_version="v1.4.2")}, "v1.4.2", {"header": "X-Version"}),
    ({"/health": answer({"version": "1.4.2"}, x_release="1.4.2")}, "v1.4.2", {"header": "X-Release"}),
    ({"/health": answer(server="nginx/1.27", x_version="1.27.0")}, "v1.4.2", None),
    ({"/health": answer(x_app_version="1.4.2+5f3")}, "latest", {"header": "X-App-Version"}),
    ({"/health": answer(x_api_version="2026-01-01")}, "latest", None),
    (PODINFO | {"/health": answer()}, "6.9.2", {"field": "version", "path": "/"}),
    ({"/health": answer({"app": {"build": {"version": "1.4.2"}}})}, "v1.4.2", {"field": "app.build.version"}),
    ({"/health": answer(), "/info": answer(x_version="v1.4.2")}, "v1.4.2", {"header": "X-Version", "path": "/info"}),
    ({"/health": answer("<i>1.4.2</i>", x_by="web-1")}, "v1.4.2", {"header": "X-By", "names_pod": True}),
    ({"/": answer({"pod": "web-1"}), "/health": answer()}, "latest", {"field": "pod", "path": "/", "names_pod": True}),
    ({"/health": answer("ok")}, "v1.4.2", None),
    ({}, "v1.4.2", None),
])  # fmt: skip
def test_the_first_place_that_can_be_relied_on(answers, tag, found):
    origin = find_origin(answers, "/health", "web-1", tag)
    assert (origin and origin.model_dump(exclude_defaults=True)) == found
