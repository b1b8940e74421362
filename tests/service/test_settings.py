"""Settings: from variables and flags, checked, and documented without exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, is_loopback, settings_page, variables
from tests.service.server_process import ROOT

FIELDS = sorted(Settings.model_fields)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        for variable in variables(name):
            monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_described_and_on_the_page(name: str) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert Settings.model_fields[name].description
    for variable in variables(name):
        assert f"`{variable}`" in page


def test_the_page_is_the_one_that_the_settings_give() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page(), (
        "write it anew: python -m service.settings > docs/settings.md"
    )


def test_the_defaults_work_as_they_are() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.port == 8000
    assert settings.redis_url is None
    assert settings.threads >= 1
    assert not settings.allow_anonymous


def test_variables_set_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONESUCH_BUNDLES", "/srv/bundles")
    monkeypatch.setenv("NONESUCH_REQUIRED_MODELS", "digits, moons,")
    monkeypatch.setenv("NONESUCH_COMPUTE_THREADS", "3")
    settings = Settings()
    assert settings.bundles == Path("/srv/bundles")
    assert settings.required_models == ("digits", "moons")
    assert settings.threads == 3


@pytest.mark.parametrize(("common", "field"), [("PORT", "port"), ("REDIS_URL", "redis_url")])
def test_common_names_are_read_too_and_ours_win(monkeypatch: pytest.MonkeyPatch, common: str, field: str) -> None:
    first, second = ("8001", "8002") if field == "port" else ("redis://one", "redis://two")
    monkeypatch.setenv(common, first)
    assert _plain(getattr(Settings(), field)) == first
    monkeypatch.setenv(f"NONESUCH_{common}", second)
    assert _plain(getattr(Settings(), field)) == second


def test_flags_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8001")
    assert Settings(port=8003).port == 8003


def test_an_empty_redis_url_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    assert Settings().redis_url is None


def test_secrets_are_not_printed() -> None:
    shown = repr(Settings(redis_url="redis://:hunter2@db", cache_key="swordfish"))  # type: ignore[arg-type]
    assert "hunter2" not in shown
    assert "swordfish" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"provider": "tpu"},
        {"poll_seconds": 0},
        {"max_json_bytes": 2**20, "max_bytes_in_flight": 2**19},
        {"default_timeout_ms": 2000, "max_timeout_ms": 1000},
        {"no_such_setting": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_only_this_machine_reaches_a_loopback_address(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", "localhost.example.org", ""])
def test_others_reach_every_other_address(host: str) -> None:
    assert not is_loopback(host)


def _plain(value: object) -> str:
    reveal = getattr(value, "get_secret_value", None)
    return reveal() if reveal else str(value)
