"""Text stays text: one escaper for each kind of markup that somebody reads. What comes from outside goes through them.

HTML has its own in Python's `html`, JSON needs none.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|#~!&]|:(?=//)|(?<=www)(?<![^\W_]www)\.", re.IGNORECASE)
_URL_LETTERS = "/?=&%:#[]@!$'()*+,;~-._"
_JIRA = re.compile(
    r"(?P<address>https?://[\w./:%?=&~+-]+)|(?P<line>^[^\S\n]*[hb](?=[1-6q]\.))|[\\{}\[\]()*_^~!|?+#]"
    r"|(?<![^\W_])-|-(?![^\W_])",  # an underscore is no letter of a word here: it is markup itself
    re.MULTILINE,
)
_LINE_BREAKS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


def slack(text: str) -> str:
    """For Slack's ``mrkdwn``, and for its fallback text: no mention, no link that says something else."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_link(address: str, name: str) -> str:
    """A link; its name alone where the address is none of the web."""
    safe = web_address(address)
    return f"<{slack(safe.replace('|', '%7C'))}|{slack(name).replace('|', '/')}>" if safe else slack(name)


def web_address(address: str) -> str:
    """The address, with every letter that could end it encoded; empty for any that is not http or https."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return quote(address, safe=_URL_LETTERS) if usable else ""


def markdown(text: str) -> str:
    """For one line of Markdown, in a table too: neither formatting nor a table, link, picture or HTML, and no address
    that becomes a link by itself.
    """
    return _MARKDOWN.sub(r"\\\g<0>", _LINE_BREAKS.sub(" ", text))


def jira(text: str) -> str:
    """For Jira's wiki markup, line by line as it is: no macro, named link, mention, picture, heading or formatting. A
    backslash escapes there, and two of them break a line, so that one is written as a character's number. An address of
    the web stays one that can be clicked.
    """
    return _JIRA.sub(_for_jira, text)


def _for_jira(found: re.Match[str]) -> str:
    if found["address"]:
        return found[0]
    if found["line"] is not None:
        return f"{found[0][:-1]}&#{ord(found[0][-1])};"
    return "&#92;" if found[0] == "\\" else f"\\{found[0]}"
