"""Every command that the README shows returns what the README shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from contract.bundle import open_bundle
from tests.readme import Curl, Example, examples, fences, matches, parse_curl
from tests.service.server_process import serving

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
ENDPOINTS = ["/sample", "/log_prob", "/encode", "/decode", "/anomaly-score", "/inpaint", "/classify"]
SHOWN = "http://127.0.0.1:8000"
CURLS = [example for example in examples(PAGE) if example.command.startswith("curl ")]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    # One server for the whole page, in the page's order: a second call may be shown to come from the cache.
    with serving(ROOT / "bundles") as server:
        yield server.url


@pytest.mark.parametrize("example", CURLS, ids=lambda example: f"line {example.line}")
def test_a_command_returns_what_the_readme_shows(example: Example, url: str, tmp_path: Path) -> None:
    assert SHOWN in example.command
    with httpx.Client(timeout=30.0) as client:
        client.headers.clear()
        got = parse_curl(example.command.replace(SHOWN, url)).run(client, tmp_path).replace(url, SHOWN)
    assert matches(example.output, got), f"README.md:{example.line} shows\n{example.output}\nbut it is\n{got}"


def test_no_curl_is_shown_without_being_run() -> None:
    shown = sum(len(re.findall(r"^\s*(?:\$ )?curl ", text, re.MULTILINE)) for _, text, _ in fences(PAGE))
    assert shown == len(CURLS)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_is_shown(endpoint: str) -> None:
    assert endpoint in {urlsplit(parse_curl(example.command).url).path for example in CURLS}


def test_the_table_of_bundles_has_the_manifests_figures() -> None:
    shown = re.findall(r"^\| `([\w-]+)` \|.*?\|.*?\| (\S+) ± (\S+) \| ([\d,]+) \|", PAGE, re.MULTILINE)
    shipped = {path.name: path for path in (ROOT / "bundles").iterdir() if path.is_dir()}
    assert {name for name, *_ in shown} == shipped.keys()
    for name, value, error, n in shown:
        newest = max(shipped[name].iterdir(), key=lambda path: int(path.name))
        metrics = {part.name: part for part in open_bundle(newest).manifest.metrics}
        figure = metrics["test_log_prob"]
        for text, number in ((value, figure.value), (error, figure.standard_error)):
            digits = len(text.partition(".")[2])
            assert text.replace("−", "-") == f"{number:.{digits}f}"
        assert int(n.replace(",", "")) == figure.n


# -- the reader itself --------------------------------------------------------------------------------------------

BLOCK = """Text.

```console
$ make serve
Nonesuch serves ...
$ curl -s http://127.0.0.1:8000/sample \\
    -d '{"model": "moons",
         "n": 2}'
{"rows": [[1.0, ...],
          [0.5, 2.0]]}
```

```sh
curl elsewhere
```
"""


def test_commands_are_read_with_their_output() -> None:
    serve, curl = examples(BLOCK)
    assert serve == Example(4, "make serve", "Nonesuch serves ...")
    assert curl.line == 6
    assert parse_curl(curl.command) == Curl(
        url="http://127.0.0.1:8000/sample", data=['{"model": "moons",\n         "n": 2}']
    )
    assert curl.output == '{"rows": [[1.0, ...],\n          [0.5, 2.0]]}'


@pytest.mark.parametrize(
    ("shown", "got", "same"),
    [
        ('{"a": [1,\n 2]}', '{"a":[1,2]}', True),
        ('{"a": [1, 3]}', '{"a":[1,2]}', False),
        ('{"a": "b c"}', '{"a":"bc"}', False),
        ('{"a": [1, ...], "b": ...}', '{"a":[1,2,3],"b":{}}', True),
        ('{"a": [1, ...], "c": ...}', '{"a":[1,2,3],"b":{}}', False),
        ('{"a": -1.23...}', '{"a":-1.2345}', True),
        ("HTTP/1.1 200 OK\n...\netag: x", "HTTP/1.1 200 OK\ndate: today\netag: x\n", True),
        ("HTTP/1.1 200 OK\n...\netag: y", "HTTP/1.1 200 OK\ndate: today\netag: x\n", False),
        ("", "something", False),
    ],
)
def test_an_output_is_compared_as_in_a_doctest(shown: str, got: str, same: bool) -> None:
    assert matches(shown, got) is same


def test_curl_s_flags_are_translated() -> None:
    assert parse_curl("curl -si -X PUT -H 'X-Timeout-Ms: 5' -d a=1 -d b=2 http://h/p") == Curl(
        url="http://h/p", method="PUT", headers={"x-timeout-ms": "5"}, data=["a=1", "b=2"], show_headers=True
    )
    json = {"content-type": "application/json", "accept": "application/json"}
    assert parse_curl("curl --json '{}' http://h") == Curl(url="http://h", headers=json, data=["{}"])
    assert parse_curl("curl -sI http://h") == Curl(url="http://h", only_headers=True)
    assert parse_curl("curl -o a.png http://h") == Curl(url="http://h", output="a.png")


@pytest.mark.parametrize(
    "command", ["wget http://h", "curl --upload-file x http://h", "curl -s", "curl http://a http://b"]
)
def test_what_is_not_understood_is_an_error(command: str) -> None:
    with pytest.raises(ValueError, match=r"curl|address|translated"):
        parse_curl(command)


def sent(command: str) -> tuple[httpx.Request, str]:
    """The request that a command sends to a server that answers ``{"a": 1}``, and what is printed."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, headers={"etag": "x"}, content=b'{"a": 1}', extensions={"http_version": b"HTTP/1.1"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.headers.clear()
        printed = parse_curl(command).run(client, Path())
    return requests[0], printed


def test_the_request_is_the_one_that_curl_sends() -> None:
    request, printed = sent("curl -s http://h/p?q=1")
    assert (request.method, str(request.url), request.content) == ("GET", "http://h/p?q=1", b"")
    assert printed == '{"a": 1}'
    request, _ = sent("curl http://h/p -d a=1 -d b=2")
    assert (request.method, request.content) == ("POST", b"a=1&b=2")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    request, _ = sent("curl http://h/p --json '{}'")
    assert (request.method, request.content, request.headers["content-type"]) == ("POST", b"{}", "application/json")
    assert "accept-encoding" not in request.headers
    request, printed = sent("curl -i -X DELETE http://h/p")
    assert request.method == "DELETE"
    assert printed == 'HTTP/1.1 200 OK\netag: x\nContent-Length: 8\n\n{"a": 1}'
