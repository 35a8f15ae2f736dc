"""What the recorder has heard, and its outages."""

from __future__ import annotations

from typing import Any

import httpx

HTTP = httpx.Client(trust_env=False, timeout=60)
"""One for all: making it reads every certificate of the machine."""
SERVICES = ("slack", "statuspage", "jira", "jira-cloud", "smtp")


class Told:
    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, service: str = "", *methods: str) -> list[Any]:
        """The calls, oldest first."""
        calls = HTTP.get(f"{self.url}/recorded").json()
        return [c for c in calls if c["service"].startswith(service) and (not methods or c["method"] in methods)]

    def posts(self, text: str = "") -> list[Any]:
        """Messages in Slack that begin so."""
        calls = [c["body"] for c in self("slack") if c["path"] == "/api/chat.postMessage"]
        return [body for body in calls if body["text"].startswith(text)]

    def forget(self) -> None:
        HTTP.delete(f"{self.url}/recorded")

    def away(self, *services: str, **answer: Any) -> None:
        for service in services:
            wanted = {"status": 503, "body": {}, **answer}
            HTTP.put(f"{self.url}/answers/{service}", json=wanted).raise_for_status()

    def back(self, *services: str) -> None:
        for service in services or SERVICES:
            HTTP.delete(f"{self.url}/answers/{service}")
