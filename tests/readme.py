"""Commands in a Markdown page and what the page says they print; a curl that needs no curl.

A fenced block whose language is ``console`` holds commands after ``$ ``, each followed by its output. ``...`` stands
for anything, as in doctest. JSON may be laid out on several lines: space outside its strings does not count.
"""

from __future__ import annotations

import doctest
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import httpx

__all__ = ["Curl", "Example", "examples", "fences", "matches", "parse_curl"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A command and the output that the page shows.

    Attributes:
        line: where it stands in the page, from 1.
    """

    line: int
    command: str
    output: str


def fences(page: str) -> list[tuple[str, str, int]]:
    """The fenced blocks: language, text and the line of the text."""
    return [(match[1], match[2], page.count("\n", 0, match.start(2)) + 1) for match in FENCE.finditer(page)]


def examples(page: str) -> list[Example]:
    """Every command of the ``console`` blocks; a backslash at the end of a line carries the command on."""
    found = []
    for language, text, start in fences(page):
        if language != "console":
            continue
        lines = text.splitlines()
        at = 0
        while at < len(lines):
            if not lines[at].startswith("$ "):
                raise ValueError(f"line {start + at}: a console block starts with a command, got {lines[at]!r}")
            first, command = at, lines[at][2:]
            # Also a string in quotes may go on over several lines.
            while command.endswith("\\") or _open_quote(command):
                at += 1
                command = f"{command.removesuffix(chr(92))}\n{lines[at].removeprefix('> ')}"
            at += 1
            output = []
            while at < len(lines) and not lines[at].startswith("$ "):
                output.append(lines[at])
                at += 1
            found.append(Example(start + first, command, "\n".join(output).rstrip()))
    return found


def _open_quote(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


@dataclass
class Curl:
    """A curl command that has been understood; ``run`` does what it does."""

    url: str = ""
    method: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    show_headers: bool = False
    only_headers: bool = False
    output: str = ""

    def run(self, client: httpx.Client, folder: Path) -> str:
        """Send the request and give what curl would print.

        Args:
            client: without headers of its own.
            folder: where ``-o FILE`` is written.
        """
        headers = {"accept": "*/*", "user-agent": "curl/8"}
        if self.data:
            headers["content-type"] = "application/x-www-form-urlencoded"
        headers |= self.headers
        method = self.method or ("HEAD" if self.only_headers else "POST" if self.data else "GET")
        content = "&".join(self.data).encode() if self.data else None
        response = client.send(client.build_request(method, self.url, headers=headers, content=content))
        head = ""
        if self.show_headers or self.only_headers:
            lines = [f"{response.http_version} {response.status_code} {response.reason_phrase}"]
            lines += [f"{name.decode()}: {value.decode()}" for name, value in response.headers.raw]
            head = "\n".join(lines) + "\n\n"
        if self.output:
            (folder / self.output).write_bytes(response.content)
            return head
        return head + response.text


def parse_curl(command: str) -> Curl:
    """Read a curl command.

    Raises:
        ValueError: it is not one, or uses a flag that is not translated here.
    """
    words = shlex.split(command.replace("\\\n", " "))
    if not words or words.pop(0) != "curl":
        raise ValueError(f"not a curl command: {command!r}")
    curl = Curl()
    while words:
        word = words.pop(0)
        if re.fullmatch(r"-[sSfiIN]{2,}", word):
            words[:0] = [f"-{letter}" for letter in word[1:]]
            continue
        match word:
            case "-s" | "--silent" | "-S" | "--show-error" | "-N" | "--no-buffer":
                pass
            case "-i" | "--include":
                curl.show_headers = True
            case "-I" | "--head":
                curl.only_headers = True
            case "-X" | "--request":
                curl.method = words.pop(0)
            case "-o" | "--output":
                curl.output = words.pop(0)
            case "-H" | "--header":
                name, _, value = words.pop(0).partition(":")
                curl.headers[name.strip().lower()] = value.strip()
            case "-d" | "--data" | "--data-raw":
                curl.data.append(words.pop(0))
            case "--json":
                curl.data.append(words.pop(0))
                curl.headers = {"content-type": "application/json", "accept": "application/json"} | curl.headers
            case _ if word.startswith("-") or curl.url:
                raise ValueError(f"{word!r} in {command!r} is not translated")
            case _:
                curl.url = word
    if not curl.url:
        raise ValueError(f"no address in {command!r}")
    return curl


def matches(shown: str, got: str) -> bool:
    """Whether an output is the one that the page shows."""
    return doctest.OutputChecker().check_output(
        _plain(shown) + "\n", _plain(got) + "\n", doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )


def _plain(text: str) -> str:
    if not text.lstrip().startswith(("{", "[")):
        return text.strip()
    tokens = re.findall(r'"(?:\\.|[^"\\])*"|\s+|[^"\s]+|"', text)
    return "".join(token for token in tokens if not token.isspace())
