"""The file of the helpdesks: what it may say, and that no secret is in it or comes out of it."""

import re
from pathlib import Path

import pytest
from helpdesk_world import DESKS, ENVIRON, STANDARD_SECRET, write_config

from gapnlp.errors import ConfigError
from serve.connectors import KINDS, ConnectorConfig
from serve.connectors.zendesk import TEST_SECRET
from serve.helpdesk import load_connectors

MANUAL = Path(__file__).parent.parent / "docs" / "helpdesks.md"
ZENDESK = """
[zendesk]
base_url = "https://example.zendesk.com"
email = "bot@example.com"
api_token_env = "DESK_TOKEN"
webhook_secret_env = "DESK_SECRET"
"""


@pytest.fixture
def load(tmp_path):
    def load(text, environ=ENVIRON):
        path = tmp_path / "connectors.toml"
        path.write_text(text, encoding="utf-8")
        return load_connectors(path, environ=environ)

    return load


def refusal(load, text, **options):
    with pytest.raises(ConfigError) as caught:
        load(text, **options)
    return str(caught.value)


@pytest.mark.parametrize("kind", DESKS)
def test_every_kind_can_be_set_up(kind, tmp_path):
    with DESKS[kind]() as desk:
        path = write_config(tmp_path, desk, dry_run=True)
    (connector,) = load_connectors(path, environ=ENVIRON).values()
    assert connector.config.dry_run
    assert connector.config.kind == kind


def test_the_table_is_named_as_in_the_address_and_the_kind_may_be_another_word(load):
    second = ZENDESK.replace("[zendesk]", '[zendesk-emea]\nkind = "zendesk"')
    assert list(load(ZENDESK + second)) == ["zendesk", "zendesk-emea"]


def test_tags_have_a_prefix_and_the_order_of_the_taxonomy(load):
    config = load(ZENDESK)["zendesk"].config
    assert config.tags_for({"delivery", "policy"}, review=True) == ("gap_policy", "gap_delivery", "gap_review")
    assert config.tags_for((), review=False) == ()
    config = load(ZENDESK + 'tag_prefix = "why-"\nreview_tag = false\n')["zendesk"].config
    assert config.tags_for({"customer"}, review=True) == ("why-customer",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"DESK_TOKEN"', '"UNSET_TOKEN"', "UNSET_TOKEN is not set"),
        ('"DESK_TOKEN"', "5", "expected the name of an environment variable"),
        ("https://", "http://", "expected an address that begins with https://"),
        ("bot@example.com", "bot", "email"),
        ("bot@example.com", "a:b@example.com", "email"),
        ("[zendesk]", "[zendesk]\nverify = false", "verify"),
        ("[zendesk]", '[zendesk]\ntag_prefix = ""', "tag_prefix"),
        ("[zendesk]", '[zendesk]\ntag_prefix = "Gap tag"', "tag_prefix"),
        ("[zendesk]", '[helpdesk]\nkind = "zenddesk"', "expected one of: zendesk"),
        ("[zendesk]", '[API]\nkind = "zendesk"', "expected a name"),
        ("[zendesk]", '[api]\nkind = "zendesk"', "expected a name"),
        ("[zendesk]", "zendesk = 5\n[other]", "expected a table"),
        ("[zendesk]", "[zendesk", "(at line 2, column 9); mend that place"),
    ],
)
def test_mistakes_are_named_with_what_was_expected(load, old, new, said):
    assert said in refusal(load, ZENDESK.replace(old, new))


def test_an_empty_file_and_no_file_are_refused(load, tmp_path):
    assert "begins with a line such as [zendesk]" in refusal(load, "")
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\): name the TOML file"):
        load_connectors(tmp_path / "nothing.toml", environ=ENVIRON)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(ConfigError, match="save the TOML file of the helpdesks as that"):
        load_connectors(tmp_path / "latin.toml", environ=ENVIRON)


def test_a_secret_in_the_file_is_refused_and_not_repeated(load):
    text = ZENDESK.replace('api_token_env = "DESK_TOKEN"', 'api_token = "s3cr3t-t0k3n"')
    message = refusal(load, text)
    assert "api_token" in message
    assert "s3cr3t-t0k3n" not in message


def test_secrets_are_in_no_message_and_no_repr(load):
    connector = load(ZENDESK)["zendesk"]
    assert ENVIRON["DESK_TOKEN"] not in repr(connector.config)
    message = refusal(load, ZENDESK.replace("bot@example.com", "bot"))
    assert ENVIRON["DESK_TOKEN"] not in message
    assert ENVIRON["DESK_SECRET"] not in message


def test_zendesks_published_secret_is_refused_before_it_can_be_used(load):
    message = refusal(load, ZENDESK, environ=ENVIRON | {"DESK_SECRET": TEST_SECRET})
    assert "anybody can sign" in message
    assert TEST_SECRET not in message


def test_any_other_helpdesk_needs_a_secret_that_can_sign_and_calls_that_name_tags(tmp_path):
    with DESKS["standard"]() as desk:
        path = write_config(tmp_path, desk)
    text = path.read_text(encoding="utf-8")
    for secret in ("whsec_", "whsec_%%%", "a"):
        with pytest.raises(ConfigError, match="expected a secret of Standard Webhooks"):
            load_connectors(path, environ=ENVIRON | {"DESK_STANDARD_SECRET": secret})
    for old, new, said in (
        ('"{tags}"', '"tags"', 'expected "{tags}"'),
        ('path = "/v9/tickets/{ticket}/labels"', 'path = "/v9/labels"', "expected {ticket}"),
        ('method = "POST"', 'method = "GET"', "method"),
        ('tags = "ticket.labels"', 'tags = "ticket..labels"', "tags"),
        ("[other.remove]", "[other.erase]", "remove"),
    ):
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_connectors(path, environ=ENVIRON)
        assert said in str(caught.value)
        assert STANDARD_SECRET not in str(caught.value)


def test_every_example_of_the_manual_can_be_used(load):
    examples = re.findall(r"```toml\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    kinds = set()
    for example in examples:
        names = re.findall(r'_env = "(\w+)"', example)
        (connector,) = load(example, environ=dict.fromkeys(names, STANDARD_SECRET)).values()
        kinds.add(connector.config.kind)
    assert kinds == set(KINDS)


def test_the_manual_names_every_setting():
    text = MANUAL.read_text(encoding="utf-8")
    for config, _ in KINDS.values():
        for name, field in config.model_fields.items():
            assert f"{field.alias or name}" in text, name
    shared = re.findall(r"^\| `(\w+)` \|", text.partition("## Settings of every helpdesk")[2].partition("##")[0], re.M)
    expected = {field.alias or name for name, field in ConnectorConfig.model_fields.items()} | {"kind"}
    assert set(shared) == expected
