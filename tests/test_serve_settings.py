"""The settings: read from the environment, refused with the variable's name, secrets hidden."""

import pytest

from gapnlp.errors import ConfigError
from serve.settings import load_settings, parse_rate, unknown_variables


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


@pytest.mark.parametrize("rate", ["", "10", "0/minute", "x/minute", "10/fortnight", "-1/second", "10/minute/hour"])
def test_a_rate_that_cannot_be_read_is_refused_with_what_was_expected(monkeypatch, rate):
    monkeypatch.setenv("GAPNLP_RATE_LIMIT", rate)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"settings of the service: GAPNLP_RATE_LIMIT: got {rate!r}, but expected")


def test_rates_are_read():
    assert parse_rate("1200/minute") == (1200, 60)
    assert parse_rate(" 5/Day ") == (5, 86_400)


def test_variables_that_set_nothing_are_found_with_what_they_may_mean():
    environ = {"GAPNLP_PORT": "1", "gapnlp_host": "x", "PORT": "1", "GAPNLP_PROT": "2", "GAPNLP_ZZZZZZ": "1"}
    assert unknown_variables(environ) == {"GAPNLP_PROT": "GAPNLP_PORT", "GAPNLP_ZZZZZZ": None}


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
