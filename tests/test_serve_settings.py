"""The settings: read from the environment, refused with the variable's name, secrets hidden."""

import pytest

from gapnlp.errors import ConfigError
from serve.settings import load_settings


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("GAPNLP_PORT", "8123")
    monkeypatch.setenv("GAPNLP_CORS_ORIGINS", "https://desk.example, https://other.example")
    found = load_settings()
    assert found.port == 8123
    assert found.cors_origins == ("https://desk.example", "https://other.example")
    assert load_settings(port=1).port == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("MAX_TEXTS", "0"), ("ENGINE", "abacus"), ("TIMEOUT_SECONDS", "-1"), ("LOG_LEVEL", "loud")],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(monkeypatch, name, value):
    monkeypatch.setenv(f"GAPNLP_{name}", value)
    with pytest.raises(ConfigError, match=f"GAPNLP_{name}: "):
        load_settings()


def test_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("GAPNLP_DATABASE_URL", "postgresql://me:hunter2@db/gapnlp")
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize(
    ("host", "needs_keys"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("10.0.0.5", True), ("desk", True)],
)
def test_keys_are_needed_wherever_others_can_reach(host, needs_keys):
    assert load_settings(host=host).needs_keys is needs_keys
    assert load_settings(host=host, require_keys=True).needs_keys
