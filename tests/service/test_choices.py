"""What links set beside seed and row: drawn as asked, written in one way, refused in words."""

from __future__ import annotations

import html
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from contract.bundle import GOLDENS, write_arrays
from contract.programs import Program
from service.api.negotiation import PNG
from service.api.problems import ProblemError
from service.web.choices import read_choices, tidy
from tests.bundles import Parts, _parts, graph_bytes, write
from tests.service.server_process import ROOT, serving
from tests.service.test_overload import eventually
from tests.service.test_refusals import refused

LABELS = ["plain", "é & co", "a=b"]
PROGRAM: dict[str, Any] = {
    "init": "start",
    "step": "step",
    "final": "draw",
    "inputs": [
        *({"name": name, "dtype": "int64", "source": "address"} for name in ("seed", "row")),
        {"name": "label", "dtype": "int64", "source": "condition", "vocabulary": LABELS},
        {
            "name": "temperature",
            "dtype": "float64",
            "source": "parameter",
            "default": 1.0,
            "minimum": 0.5,
            "maximum": 4.0,
        },
    ],
    "state": [{"name": "level", "dtype": "float64"}],
    "steps": {"default": 2, "allowed": [1, 2, 5]},
    "outputs": [{"name": "x", "dtype": "uint8", "shape": [4, 4], "kind": "sample", "units": "data"}],
}


def levels(seed: int, row: int, label: int, temperature: float = 1.0, steps: int = 2) -> Any:
    """The picture of 16 levels that ``stripes`` draws, [4, 4]."""
    return np.mod(seed + 3 * row + 5 * label + np.floor(4 * temperature) + steps + np.arange(16), 16).reshape(4, 4)


def stripes() -> Parts:
    """Pictures that show all that they were drawn with; there is no picture without a label."""
    double, integer, byte = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT8

    def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(op, inputs.split(), [output], **attributes)

    def constants(**values: Any) -> list[Any]:
        return [numpy_helper.from_array(np.array(value), name) for name, value in values.items()]

    start = graph_bytes(
        [
            node("Mul", "row three", "rows"),
            node("Mul", "label five", "labels"),
            node("Add", "seed rows", "a"),
            node("Add", "a labels", "b"),
            node("Cast", "b", "c", to=double),
            node("Mul", "temperature four", "d"),
            node("Floor", "d", "e"),
            node("Add", "c e", "level"),
        ],
        {"seed": (integer, ["n"]), "row": (integer, ["n"]), "label": (integer, ["n"]), "temperature": (double, ["n"])},
        {"level": (double, ["n"])},
        constants(three=3, five=5, four=4.0),
    )
    step = graph_bytes(
        [node("Add", "level one", "next_level")],
        {"level": (double, ["n"])},
        {"next_level": (double, ["n"])},
        constants(one=1.0),
    )
    draw = graph_bytes(
        [
            node("Cast", "level", "whole", to=integer),
            node("Unsqueeze", "whole axis", "column"),
            node("Add", "column places", "every"),
            node("Mod", "every sixteen", "rest"),
            node("Cast", "rest", "flat", to=byte),
            node("Reshape", "flat shape", "x"),
        ],
        {"level": (double, ["n"])},
        {"x": (byte, ["n", 4, 4])},
        constants(axis=[1], places=np.arange(16), sixteen=16, shape=[-1, 4, 4]),
    )
    seed, row, label = np.array([1, 2, 40]), np.array([0, 7, 3]), np.array([0, 1, 2])
    x = np.stack([levels(*map(int, address)) for address in zip(seed, row, label, strict=True)]).astype(np.uint8)
    goldens = {"in.seed": seed, "in.row": row, "in.label": label, "out.x": x}
    files = {"start.onnx": start, "step.onnx": step, "draw.onnx": draw}
    files[GOLDENS] = write_arrays({f"sample.{name}": value for name, value in goldens.items()})
    fields, every = _parts("stripes", 1, {"sample": PROGRAM}, ["start", "step", "draw"], files)
    level = {"name": "level", "kind": "ordinal", "base_measure": "counting", "levels": 16}
    return {**fields, "support": {"shape": [4, 4], "element": level}}, every


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("bundles")
    write(root, stripes())
    with serving(root) as server, server.client() as client:
        yield client
        assert "Traceback" not in server.err


@pytest.fixture(scope="module")
def place(striped: httpx.Client) -> str:
    """Row 3 of seed 42, without what is chosen."""
    where = striped.get("/x/stripes/42").headers["location"]
    assert where.endswith("/42/0?label=plain"), "there is no picture without a label, so the first is taken"
    return str(where.removesuffix("/0?label=plain") + "/3")


def pixels(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    scale = len(shown) // 4
    return np.rint(shown[::scale, ::scale] / 255 * 15)


# -- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "drawn"),
    [
        ("label=plain", {"label": 0}),
        (f"label={quote('é & co')}", {"label": 1}),
        ("label=a%3Db&temperature=2.5", {"label": 2, "temperature": 2.5}),
        ("steps=5&label=plain", {"label": 0, "steps": 5}),
        ("steps=1&temperature=4&label=a%3Db", {"label": 2, "steps": 1, "temperature": 4.0}),
    ],
)
def test_a_picture_is_drawn_with_what_its_link_says(
    striped: httpx.Client, place: str, query: str, drawn: dict[str, Any]
) -> None:
    answer = striped.get(f"{place}.png?{query}")
    assert np.array_equal(pixels(answer), levels(42, 3, **drawn))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    asked = {"model": "stripes", "seed": 42, "start": 3, "condition": {"label": LABELS[drawn["label"]]}}
    asked["parameters"] = {name: value for name, value in drawn.items() if name != "label"}
    assert striped.post("/sample", json=asked, headers={"Accept": PNG}).content == answer.content


def test_every_choice_is_part_of_the_entity_tag_and_its_spelling_is_not(striped: httpx.Client, place: str) -> None:
    def tag(query: str) -> str:
        return striped.get(f"{place}.png?{query}").headers["etag"]

    different = [
        "label=plain",
        "label=a%3Db",
        "label=plain&temperature=2",
        "label=plain&steps=5",
        "label=plain&steps=1",
    ]
    assert len({tag(query) for query in different}) == len(different)
    alike = ["label=plain&temperature=2", "temperature=2.0&label=plain", "steps=2&label=%70lain&temperature=20e-1"]
    assert len({tag(query) for query in alike}) == 1
    seen = {"If-None-Match": tag(alike[0])}
    assert striped.get(f"{place}.png?{alike[1]}", headers=seen).status_code == 304
    assert striped.get(f"{place}.png?label=plain", headers=seen).status_code == 200


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("", "label", "expected one of 'plain', 'é & co', 'a=b', got no condition"),
        ("label=", "label", "expected one of 'plain', 'é & co', 'a=b', got None"),
        ("label=spotted", "label", "expected one of 'plain', 'é & co', 'a=b', got 'spotted'"),
        ("label=0", "label", "got '0'"),
        ("label=plain&temperature=9", "temperature", "expected at most 4, got 9"),
        ("label=plain&temperature=0.1", "temperature", "expected at least 0.5, got 0.1"),
        ("label=plain&temperature=warm", "temperature", "expected a finite number, got 'warm'"),
        ("label=plain&temperature=", "temperature", "expected a finite number, got ''"),
        ("label=plain&temperature=1e999", "temperature", "expected a finite number"),
        ("label=plain&temperature=true", "temperature", "expected a finite number, got 'true'"),
        ("label=plain&steps=3", "steps", "expected one of 1, 2, 5, got 3"),
        ("label=plain&steps=1.5", "steps", "expected one of 1, 2, 5, got 1.5"),
        ("label=plain&label=plain", "label", "expected one value, got two"),
        ("label=plain&tempo=1", "tempo", "(label, temperature, steps), got another name"),
        ("label=plain&seed=1", "seed", "got another name"),
    ],
)
@pytest.mark.parametrize("end", ["", ".png"])
def test_422_for_what_cannot_be_chosen(
    striped: httpx.Client, place: str, query: str, field: str, words: str, end: str
) -> None:
    problem = refused(striped.get(f"{place}{end}?{query}"), 422, "invalid-request", field=field)
    assert words in problem["detail"]
    assert f"'{field}' in the query string" in problem["detail"]
    seen = {"If-None-Match": "*"}
    assert striped.get(f"{place}{end}?{query}", headers=seen).status_code == 422
    page = striped.get(f"{place}{end}?{query}", headers={"Accept": "text/html"})
    assert page.status_code == 422
    assert words in html.unescape(page.text)


def test_422_for_a_query_that_is_none(striped: httpx.Client, place: str) -> None:
    for query in ("label=%ff", "&".join(f"a{i}=1" for i in range(60))):
        for where in (f"{place}.png", place, "/x/stripes", "/x/stripes/42"):
            refused(striped.get(f"{where}?{query}"), 422, "invalid-request")


def test_a_model_that_takes_nothing_says_so(client: httpx.Client) -> None:
    where = client.get("/x/dots/42").headers["location"]
    problem = refused(client.get(f"{where}.png?label=1"), 422, "invalid-request", field="label")
    assert "nothing beside the seed and the row" in problem["detail"]


def test_what_was_chosen_is_kept_with_the_picture(tmp_path: Path) -> None:
    bundles, kept = tmp_path / "bundles", tmp_path / "kept"
    write(bundles, stripes())
    with (
        serving(bundles, NONESUCH_PICTURES=str(kept), NONESUCH_POLL_SECONDS="0.05") as server,
        server.client() as client,
    ):
        where = client.get("/x/stripes/42").headers["location"].partition("?")[0]
        queries = ["label=plain", "label=plain&temperature=2", "label=a%3Db"]
        first = {query: client.get(f"{where}.png?{query}").content for query in queries}
        assert len(set(first.values())) == 3
        assert client.get(f"{where}.png?temperature=2e0&label=plain").content == first[queries[1]]
        assert len(list(kept.rglob("*.png"))) == 3, "another spelling is no other picture"
        assert client.get(f"{where}.png?label=none").status_code == 422
        shutil.rmtree(bundles / "stripes")
        eventually(lambda: client.get("/models/stripes").status_code == 404)
        for query, content in first.items():
            assert client.get(f"{where}.png?{query}").content == content
        assert client.get(f"{where}.png?temperature=2&label=plain").content == first[queries[1]]
        assert client.get(f"{where}.png?label=plain&steps=5").status_code == 404


# -- pages ---------------------------------------------------------------------------------------------------------


def links(page: httpx.Response, pattern: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(pattern, page.text)]


def test_pages_lead_on_with_what_was_chosen(striped: httpx.Client, place: str) -> None:
    query = "label=a%3Db&steps=5&temperature=2.5"
    page = striped.get(f"{place}?temperature=2.50&steps=5&label=a%3Db")
    assert links(page, '<img src="([^"]*)"') == [f"{place}.png?{query}"]
    assert links(page, '<a href="([^"]*)" id="permanent"') == [f"{place}?{query}"]
    assert links(page, 'href="([^"]*)" rel="next"') == [f"{place.removesuffix('3')}4?{query}"]
    assert links(page, 'href="([^"]*)" rel="prev"') == [f"{place.removesuffix('3')}2?{query}"]
    assert links(page, 'href="([^"]*)" id="fresh"') == [f"/x/stripes?{query}"]
    fresh = striped.get(f"/x/stripes?{query}")
    assert links(fresh, '<a href="([^"]*)" id="permanent"')[0].endswith(f"/0?{query}")
    assert striped.get(f"/x/stripes/42?{query}").headers["location"].endswith(f"/42/0?{query}")
    assert '"parameters":{"steps":5,"temperature":2.5}' in html.unescape(page.text)
    assert '"condition":{"label":"a=b"}' in html.unescape(page.text)


def test_a_page_offers_every_label(striped: httpx.Client, place: str) -> None:
    page = striped.get(f"{place}?label=plain&steps=5")
    offered = links(page, r'<a href="([^"]*)"(?: aria-current="true")?>(?:plain|é &amp; co|a=b)</a>')
    assert [re.sub(".*label=", "", where) for where in offered] == [
        "plain&steps=5",
        "%C3%A9+%26+co&steps=5",
        "a%3Db&steps=5",
    ]
    assert re.findall('aria-current="true">([^<]*)<', page.text) == ["plain"]
    for index, where in enumerate(offered):
        picture = links(striped.get(where), '<img src="([^"]*)"')[0]
        assert np.array_equal(pixels(striped.get(picture)), levels(42, 3, index, steps=5))


@pytest.fixture(scope="module")
def shipped() -> Iterator[httpx.Client]:
    with serving(ROOT / "bundles") as server, server.client() as client:
        yield client


def test_a_page_shows_the_mean_picture_and_says_so(shipped: httpx.Client) -> None:
    where = shipped.get("/x/garments/42").headers["location"]
    assert where.endswith("/42/0?observation_noise=0")
    for none in ("label=null", "label="):
        assert shipped.get(f"/x/garments/42?{none}").headers["location"] == where
    mean = shipped.get(where)
    assert "the noise that the model&#39;s law adds to each pixel is left out" in mean.text
    bare = where.partition("?")[0]
    own = shipped.get(bare)
    assert "a draw from the model&#39;s own law" in own.text
    assert bare in links(mean, r'<a href="([^"]*)">as in the model')
    assert where in links(own, r'<a href="([^"]*)">left out')
    assert links(own, 'href="([^"]*)" id="fresh"') == ["/x/garments?observation_noise=1"]
    assert links(mean, 'href="([^"]*)" id="fresh"') == ["/x/garments"]
    for link, parameters in ((f"{bare}.png?observation_noise=0", {"observation_noise": 0}), (f"{bare}.png", {})):
        asked = {"model": "garments", "seed": 42, "parameters": parameters}
        answer = shipped.post("/sample", json=asked, headers={"Accept": PNG})
        assert answer.content == shipped.get(link).content
    half = shipped.get(f"{bare}?observation_noise=0.5&label=bag")
    assert "noise of its pixels at 0.5" in half.text
    home = shipped.get("/")
    assert "mean pictures, without the noise of their pixels" in home.text
    assert len(links(home, r'<img src="(/x/garments@[^"]*\?observation_noise=0)"')) == 8


def test_how_likely_a_labelled_picture_is_is_said_given_its_label(shipped: httpx.Client) -> None:
    where = shipped.get("/x/garments/42?label=sneaker").headers["location"]
    page = shipped.get(where)
    assert "given sneaker" in page.text
    asked = {"model": "garments", "seed": 42, "condition": {"label": "sneaker"}, "parameters": {"observation_noise": 0}}
    rows = shipped.post("/sample", json=asked).json()["rows"]
    about = {"model": "garments", "rows": rows, "condition": {"label": "sneaker"}}
    likely = shipped.post("/log_prob", json=about).json()["log_prob"][0]
    assert f"{likely:.1f}".replace("-", "−") in page.text


# -- what a query string says --------------------------------------------------------------------------------------


@given(
    st.sampled_from(LABELS),
    st.floats(0.5, 4.0) | st.integers(1, 4) | st.none(),
    st.sampled_from([1, 2, 5, None]),
    st.randoms(use_true_random=False),
)
def test_the_same_choices_are_always_written_alike(label: str, temperature: Any, steps: Any, order: Any) -> None:
    program = Program.model_validate(PROGRAM)
    pairs = [f"label={quote(label)}"]
    pairs += [f"temperature={temperature!r}"] if temperature is not None else []
    pairs += [f"steps={steps}"] if steps is not None else []
    order.shuffle(pairs)
    chosen = read_choices(program, "&".join(pairs).encode())
    assert chosen.label("label") == label
    assert chosen.knob("temperature", 1.0) == (1.0 if temperature is None else temperature)
    assert chosen.knob("steps", 2) == (steps or 2)
    written = chosen.query.encode()
    assert read_choices(program, written) == chosen
    assert tidy(written) == chosen.query, "what is kept under it is found again without the program"


@given(
    st.binary(max_size=40) | st.text(max_size=20).map(lambda text: f"label=plain&temperature={quote(text)}".encode())
)
def test_no_query_string_is_a_surprise(query: bytes) -> None:
    program = Program.model_validate(PROGRAM)
    with suppress(ProblemError):  # a 422; anything else would be a 500
        chosen = read_choices(program, query)
        assert read_choices(program, chosen.query.encode()) == chosen
