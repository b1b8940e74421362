"""What the Dockerfile and the compose files say, held against the project that they package.

No Docker engine is needed: the files are read, and what they run (the health check, Redis's command line, the service's
command line) is run here.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import inspect
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from commands.main import SUBCOMMANDS
from service.settings import Settings
from tests.service.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@dataclass
class Stage:
    """One stage of the Dockerfile: its instructions in order, those of the stages it stands on first."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        return [text for name, text in self.steps if name == instruction][-1]

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]


def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name, in order."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    stage = Stage("")
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            stage = found[alias] = Stage(base, list(found[base].steps) if base in found else [])
        else:
            stage.steps.append((name, rest.strip()))
    return found


def compose(*files: str) -> dict[str, Any]:
    """The compose files merged as far as these need: mappings are merged, ``!reset`` removes, the rest replaces."""
    reset = object()

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!reset", lambda loader, node: reset)

    def merge(base: Any, over: Any) -> Any:
        if not isinstance(base, dict) or not isinstance(over, dict):
            return over
        merged = {**base, **{name: merge(base.get(name), value) for name, value in over.items()}}
        return {name: value for name, value in merged.items() if value is not reset}

    whole: Any = {}
    for file in files:
        whole = merge(whole, yaml.load((ROOT / file).read_text(encoding="utf-8"), Loader))
    return dict(whole)


IMAGES = pytest.mark.parametrize("image", ["cpu", "gpu"])


def test_the_gpu_image_is_the_default() -> None:
    assert list(stages())[-1] == "gpu"


@IMAGES
def test_the_service_runs_as_a_user_without_privileges(image: str) -> None:
    stage = stages()[image]
    user = stage.last("USER")
    assert user not in ("root", "0")
    made = re.search(rf"^useradd .*--uid (\d+) .*\b{user}$", "\n".join(stage.all("RUN")), re.MULTILINE)
    assert made is not None
    assert int(made[1]) >= 1000
    names = [name for name, _ in stage.steps]
    assert "RUN" not in names[names.index("USER") :]


@IMAGES
def test_the_command_line_is_one_that_the_project_has(image: str) -> None:
    stage = stages()[image]
    command, subcommand = json.loads(stage.last("ENTRYPOINT"))
    assert command in PROJECT["project"]["scripts"]
    assert subcommand in SUBCOMMANDS
    options = set(inspect.signature(getattr(importlib.import_module(f"commands.{subcommand}"), subcommand)).parameters)
    flags = json.loads(stage.last("CMD"))
    assert {flag.removeprefix("--").replace("-", "_") for flag in flags if flag.startswith("--")} <= options
    assert flags[flags.index("--host") + 1] == "0.0.0.0"
    assert "--allow-anonymous" in flags
    assert flags[flags.index("--port") + 1] == stage.last("EXPOSE")
    assert "bundles bundles" in stage.all("COPY")
    assert Settings.model_fields["bundles"].default == Path("bundles")


@IMAGES
def test_the_folder_of_pictures_belongs_to_the_service_and_outlives_its_container(image: str) -> None:
    stage = stages()[image]
    folder = environment(stage)["NONESUCH_PICTURES"]
    assert f"install -d -o {stage.last('USER')} {folder}" in stage.all("RUN")
    assert f":{folder}\n" in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@IMAGES
def test_the_service_is_told_to_stop_and_its_log_is_not_held_back(image: str) -> None:
    stage = stages()[image]
    assert stage.last("STOPSIGNAL") == "SIGTERM"
    assert "PYTHONUNBUFFERED=1" in " ".join(stage.all("ENV"))


def environment(stage: Stage) -> dict[str, str]:
    return dict(pair.split("=", 1) for text in stage.all("ENV") for pair in shlex.split(text))


@IMAGES
def test_every_setting_of_the_images_exists(image: str) -> None:
    for name, value in environment(stages()[image]).items():
        if name.startswith("NONESUCH_"):
            option = name.removeprefix("NONESUCH_").lower()
            assert str(getattr(Settings(**{option: value}), option)) == value
    assert ("NONESUCH_PROVIDER" in environment(stages()[image])) == (image == "gpu")


@contextmanager
def server(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield http.server_port
        finally:
            http.shutdown()
            thread.join()


@IMAGES
def test_the_health_check_tells_a_healthy_service_from_others(image: str) -> None:
    options, _, command = stages()[image].last("HEALTHCHECK").partition("CMD ")
    assert "--start-period" in options
    program, *arguments = json.loads(command)
    assert program == "python"
    port = stages()[image].last("EXPOSE")

    def healthy(at: int) -> bool:
        asked = [argument.replace(f":{port}/", f":{at}/") for argument in arguments]
        assert asked != arguments
        return subprocess.run([sys.executable, *asked], capture_output=True).returncode == 0

    with server(200) as at:
        assert healthy(at)
    with server(503) as at:
        assert not healthy(at)
    assert not healthy(at)  # nothing listens there any more


def closure(requirements: list[str]) -> set[str]:
    """Names of everything that installing the requirements brings along, by what is installed here."""
    names: set[str] = set()
    asked = [Requirement(text) for text in requirements]
    while asked:
        requirement = asked.pop()
        name = canonicalize_name(requirement.name)
        if name in names and not requirement.extras:
            continue
        names.add(name)
        for text in importlib.metadata.requires(requirement.name) or []:
            part = Requirement(text)
            extras = [{"extra": extra} for extra in ("", *requirement.extras)]
            if part.marker is None or any(part.marker.evaluate(extra) for extra in extras):
                asked.append(part)
    return names


def test_no_image_holds_torch() -> None:
    installed = [text for stage in stages().values() for text in stage.all("RUN") if "pip install" in text]
    assert installed
    extras = {extra for text in installed for extra in re.findall(r"\.\[(\w+)\]", text)}
    assert extras == {"cpu", "gpu"}
    for text in installed:
        assert "--no-deps" in text or "-c constraints.txt" in text
        assert "torch" not in text
    project = PROJECT["project"]
    assert "torch" in closure(project["optional-dependencies"]["training"])
    served = closure([*project["dependencies"], *project["optional-dependencies"]["cpu"]])
    assert {"fastapi", "onnxruntime", "uvloop"} <= served
    assert not served & {"torch", "lightning", "scikit-learn", "scipy"}
    assert [Requirement(text).name for text in project["optional-dependencies"]["gpu"]] == ["onnxruntime-gpu"]


def test_the_images_pin_one_onnxruntime_each() -> None:
    def pins(file: str) -> dict[str, str]:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    cpu, gpu = pins("constraints.txt"), pins("deploy/constraints-gpu.txt")
    assert not cpu.keys() & gpu.keys()
    assert gpu["onnxruntime-gpu"] == cpu["onnxruntime"], "numeric profiles of the two images should differ in one thing"


def test_everything_copied_is_there_and_reaches_the_builder() -> None:
    *_, rest = (ROOT / ".dockerignore").read_text(encoding="utf-8").partition("*\n")
    allowed = [line[1:] for line in rest.splitlines() if line.startswith("!")]
    rooms = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(rooms) <= set(allowed)
    for name in allowed:
        assert (ROOT / name).exists(), f".dockerignore lets through {name}, which is not there"
    for stage in stages().values():
        for text in stage.all("COPY"):
            if text.startswith("--from=") or text == ". .":
                continue
            for source in text.split()[:-1]:
                assert any(fnmatch.fnmatch(source, name) for name in allowed), f"{source} does not reach the builder"
        for text in stage.all("RUN"):
            loop = re.match(r"for room in ([^;]+);", text)
            assert loop is None or loop[1].split() == rooms


def test_the_service_is_published_on_this_machine_alone_and_redis_not_at_all() -> None:
    services = compose("docker-compose.yml")["services"]
    assert [port.split(":")[0] for port in services["nonesuch"]["ports"]] == ["127.0.0.1"]
    assert services["nonesuch"]["ports"][0].endswith(f":{stages()['gpu'].last('EXPOSE')}")
    assert "ports" not in services["redis"]
    assert services["nonesuch"]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert services["redis"]["healthcheck"]["test"][0] == "CMD"
    assert "redis" in services["nonesuch"]["environment"]["NONESUCH_REDIS_URL"]


def test_the_compose_file_asks_for_a_gpu_and_the_other_does_not() -> None:
    gpu = compose("docker-compose.yml")["services"]["nonesuch"]
    assert gpu["build"]["target"] == "gpu"
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    cpu = compose("docker-compose.yml", "docker-compose.cpu.yml")["services"]["nonesuch"]
    assert cpu["build"]["target"] == "cpu"
    assert "deploy" not in cpu
    assert cpu["image"] != gpu["image"]
    unchanged = set(gpu) - {"build", "image", "deploy"}
    assert {name: cpu[name] for name in unchanged} == {name: gpu[name] for name in unchanged}


def test_a_stop_leaves_time_to_drain() -> None:
    grace = compose("docker-compose.yml")["services"]["nonesuch"]["stop_grace_period"]
    settings = Settings.model_fields
    assert int(grace.removesuffix("s")) >= settings["drain_seconds"].default + settings["finish_seconds"].default


def test_every_setting_of_the_compose_file_exists() -> None:
    for name in compose("docker-compose.yml")["services"]["nonesuch"]["environment"]:
        assert name.removeprefix("NONESUCH_").lower() in Settings.model_fields


def test_redis_understands_its_command_line() -> None:
    command, *options = compose("docker-compose.yml")["services"]["redis"]["command"]
    assert command == "redis-server"
    server = RedisServer(*options)
    try:
        with server.client() as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(256 * 2**20)}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}
    finally:
        server.close()
