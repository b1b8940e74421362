"""The pages, as HTML: addresses that stay, pictures that never change, and what is said when there is nothing."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.web.figures import number, scatter, strip
from tests.service.server_process import ROOT, serving
from tests.service.whole import dots_of

PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def links(page: httpx.Response, rel: str) -> list[str]:
    return re.findall(rf'href="([^"]*)" rel="{rel}"', page.text)


def permanent(client: httpx.Client, model: str, seed: int) -> str:
    answer = client.get(f"/x/{model}/{seed}")
    assert answer.status_code == 307
    return answer.headers["location"]


def pixels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))


# -- addresses -----------------------------------------------------------------------------------------------------


def test_a_seed_leads_to_its_permanent_page(client: httpx.Client) -> None:
    where = permanent(client, "dots", 42)
    digest = client.get("/models/dots").json()["capabilities"]["sample"]["program_digest"]
    assert where == f"/x/dots@{digest[:8]}/42/0"
    page = client.get(where)
    assert page.status_code == 200
    assert "These dots do not exist" in page.text


def test_pages_lead_from_row_to_row(client: httpx.Client) -> None:
    first = client.get(permanent(client, "normal", 42))
    assert links(first, "prev") == []
    (onwards,) = links(first, "next")
    assert onwards.endswith("/42/1")
    second = client.get(onwards)
    assert links(second, "prev") == [permanent(client, "normal", 42)]
    assert links(second, "next")[0].endswith("/42/2")


def test_the_last_row_of_all_has_no_next(client: httpx.Client) -> None:
    where = permanent(client, "normal", 1).removesuffix("/0")
    page = client.get(f"{where}/{2**53 - 1}")
    assert page.status_code == 200
    assert links(page, "next") == []
    assert client.get(f"{where}/{2**53}").status_code == 404


def test_every_visit_shows_another_sample_with_its_permanent_link(client: httpx.Client) -> None:
    seen = set()
    for _ in range(3):
        page = client.get("/x/normal")
        assert page.headers["cache-control"] == "no-store"
        (where,) = re.findall(r'<a href="([^"]*)" id="permanent"', page.text)
        assert re.search(r"<b>[^<]+</b>", client.get(where).text)[0] == re.search(r"<b>[^<]+</b>", page.text)[0]  # type: ignore[index]
        seen.add(where)
    assert len(seen) == 3


def test_a_permanent_link_of_an_older_version_stays(client: httpx.Client) -> None:
    old = client.get("/models/dots/versions/1").json()["capabilities"]["sample"]["program_digest"][:8]
    content = client.get(f"/x/dots@{old}/5/3.png").content
    assert np.array_equal(pixels(content)[::112, ::112] // 255, dots_of(np.array([5]), np.array([3]))[0])
    assert client.get(f"/x/dots@{old}/5/3").status_code == 200


@pytest.mark.parametrize("digest", ["00000000", "zzzzzzzz", "0" * 64, "0", ""])
@pytest.mark.parametrize("end", ["", ".png"])
def test_an_unknown_digest_is_told(client: httpx.Client, digest: str, end: str) -> None:
    path = f"/x/dots@{digest}/1/0{end}"
    program = client.get(path)
    assert program.status_code == 404
    assert program.headers["content-type"] == "application/problem+json"
    page = client.get(path, headers=PAGE)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    if digest:
        assert digest in program.json()["detail"]
        assert digest in page.text


@pytest.mark.parametrize("path", ["/x/cats", "/x/cats/1", "/x/cats@00000000/1/0", "/nowhere"])
def test_what_is_not_there_is_a_page_for_browsers(client: httpx.Client, path: str) -> None:
    page = client.get(path, headers=PAGE)
    assert page.status_code == 404
    assert "<h1>" in page.text
    assert page.headers["x-request-id"] in page.text
    assert client.get(path).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("seed", ["-1", "one", "1.5", str(2**53)])
def test_what_is_no_seed_is_not_there(client: httpx.Client, seed: str) -> None:
    assert client.get(f"/x/dots/{seed}").status_code == 404


def test_what_a_reader_writes_is_never_markup(client: httpx.Client) -> None:
    page = client.get("/x/<script>alert(1)<", headers=PAGE)
    assert page.status_code == 404
    assert "<script" not in page.text


# -- pictures ------------------------------------------------------------------------------------------------------


def test_a_picture_is_the_sample(client: httpx.Client) -> None:
    where = permanent(client, "dots", 42)
    picture = client.get(f"{where}.png")
    assert picture.headers["content-type"] == "image/png"
    drawn = pixels(picture.content)
    rows = client.post("/sample", json={"model": "dots", "seed": 42}).json()["rows"]
    scale = len(drawn) // 4
    assert drawn.shape == (4 * scale, 4 * scale)
    assert np.array_equal(drawn, np.kron(np.array(rows[0]), np.ones((scale, scale))) * 255)


def test_a_picture_never_changes_and_says_so(client: httpx.Client) -> None:
    where = f"{permanent(client, 'dots', 42)}.png"
    first, second = client.get(where), client.get(where)
    assert first.content == second.content
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert first.headers["etag"] == second.headers["etag"]
    others = [where.replace("/42/0", "/42/1"), where.replace("/42/0", "/43/0")]
    assert len({client.get(other).headers["etag"] for other in [where, *others]}) == 3


@pytest.mark.parametrize("form", ["{0}", "W/{0}", '"other", {0}', "*"])
def test_a_picture_that_the_browser_has_is_not_sent_again(client: httpx.Client, form: str) -> None:
    where = f"{permanent(client, 'dots', 7)}.png"
    etag = client.get(where).headers["etag"]
    again = client.get(where, headers={"If-None-Match": form.format(etag)})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == etag
    assert client.get(where, headers={"If-None-Match": '"other"'}).status_code == 200


def test_only_pictures_are_open_to_pages_of_others(client: httpx.Client) -> None:
    where = permanent(client, "dots", 42)
    origin = {"Origin": "https://example.org"}
    assert client.get(f"{where}.png", headers=origin).headers["access-control-allow-origin"] == "*"
    for path in (where, "/", "/models", "/x/dots", "/healthz"):
        assert "access-control-allow-origin" not in client.get(path, headers=origin).headers
    answer = client.post("/sample", json={"model": "dots"}, headers=origin)
    assert "access-control-allow-origin" not in answer.headers


def test_rows_that_are_no_pictures_have_none(client: httpx.Client) -> None:
    where = permanent(client, "normal", 42)
    problem = client.get(f"{where}.png")
    assert problem.status_code == 404
    assert where in problem.json()["detail"]


def test_head_gives_the_head_alone(client: httpx.Client) -> None:
    where = f"{permanent(client, 'dots', 42)}.png"
    head = client.head(where)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["etag"] == client.get(where).headers["etag"]
    assert client.head("/").status_code == 200


# -- what pages say ------------------------------------------------------------------------------------------------


def test_home_lists_every_model_with_a_sample_and_a_command(client: httpx.Client) -> None:
    page = client.get("/")
    for name in ("dots", "normal", "sleeper"):
        assert f'href="/x/{name}"' in page.text
    pictures = re.findall(r'<img src="([^"]*)"', page.text)
    assert len(pictures) == 8
    assert all(client.get(path).headers["content-type"] == "image/png" for path in pictures)
    assert '<svg class="scatter"' in page.text
    assert "curl -s " in page.text


def test_what_a_proxy_says_is_not_believed_unless_it_is_listed(client: httpx.Client) -> None:
    assert "curl -s http://" in client.get("/", headers={"X-Forwarded-Proto": "https"}).text


def test_a_page_says_how_likely_its_sample_is(client: httpx.Client) -> None:
    page = client.get(permanent(client, "normal", 42))
    row = client.post("/sample", json={"model": "normal", "seed": 42}).json()["rows"][0]
    likely = client.post("/log_prob", json={"model": "normal", "rows": [row]}).json()["log_prob"][0]
    assert number(likely, 5) in page.text
    assert "nats" not in client.get(permanent(client, "sleeper", 42)).text


def test_a_page_says_the_error_of_an_estimate(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bundles" / "rbm-digits", tmp_path / "rbm-digits")
    with serving(tmp_path) as server, server.client() as client:
        page = client.get(permanent(client, "rbm-digits", 42)).text
        row = client.post("/sample", json={"model": "rbm-digits", "seed": 42}).json()["rows"][0]
        answer = client.post("/log_prob", json={"model": "rbm-digits", "rows": [row]}).json()
    error = np.ravel(answer["standard_error"])[0]
    assert 0.0 < error < 1.0
    assert f"{number(answer['log_prob'][0], 5)} ± {number(error, 2)} nats" in page


@pytest.mark.parametrize("path", ["/", "/x/normal", "/x/dots", "/docs", "/nowhere", "/problems/overloaded"])
def test_pages_take_nothing_from_elsewhere_and_run_nothing_of_others(client: httpx.Client, path: str) -> None:
    page = client.get(path, headers=PAGE)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    for address in re.findall(r'<(?:img|script|link)[^>]*(?:src|href)="([^"]*)"', page.text):
        assert address.startswith(("/", str(client.base_url))), address
    assert " style=" not in page.text
    assert "<script>" not in page.text


# -- figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-3.0, "−3"),
        (17.99, "17.99"),
        (0.006399, "0.006399"),
        (-0.012345678, "−0.01235"),
        (1001.0, "1001"),
        (123456.789, "123457"),
        (1234567.0, "1.235 × 10⁶"),
        (-1.5e-7, "−1.500 × 10⁻⁷"),
        (float("nan"), "missing"),
        (float("-inf"), "−∞"),
    ],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert number(value) == text


def test_a_scatter_keeps_every_point_inside_and_both_axes_alike() -> None:
    cloud = np.array([[0.0, 0.0], [10.0, 1.0], [5.0, 0.5]])
    drawn = scatter(cloud, np.array([10.0, 1.0]), ("x", "y"), (300, 200))
    places = np.array([(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", drawn)])
    assert ((places >= 0) & (places <= [300, 200])).all()
    (dx, dy) = places[1] - places[0]
    assert dx == pytest.approx(-10 * dy, rel=0.01)  # up is up, and a unit is a unit
    assert 'aria-label="A point at x 10, y 1, among other samples"' in drawn


def test_labels_in_figures_are_escaped() -> None:
    drawn = scatter(np.zeros((1, 2)), np.zeros(2), ('"><script>', "y"))
    assert "<script>" not in drawn


def test_a_strip_shows_where_a_number_lies() -> None:
    others = np.linspace(0.0, 1.0, 101)

    def place(value: float) -> float:
        found = re.search(r'cx="([\d.]+)"', strip(others, value))
        assert found is not None
        return float(found[1])

    assert place(0.1) < place(0.5) < place(0.9) <= place(50.0) <= 120
    assert place(-50.0) >= 0
    assert strip(np.ones(5), 1.0) == ""
    assert strip(others, float("nan")) == ""
