"""The OpenAPI document, and the service held to it by schemathesis."""

import re
import sys
import unicodedata
import uuid
from datetime import UTC, datetime

import jsonschema_rs
import pytest
import schemathesis
from archive_bodies import ARCHIVES
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from service_world import fake_classifier, fake_validation, fake_world, settings_for

from gapnlp.errors import InputError
from gapnlp.text import check_text
from serve.app import create_app
from serve.routes.openapi import openapi_document
from serve.schemas.text import VISIBLE
from serve.security import SCOPES
from serve.store import Store
from serve.upload import MEDIA_TYPES

CONFIG = {
    "checks": {
        # A text or a list that is too long gets 413, which the tool does not count as a refusal by itself.
        "negative_data_rejection": {"expected-statuses": [400, 401, 404, 405, 408, 413, 415, 422]},
    },
    "parameters": {"path.name": "tiny", "path.version": "1.0"},  # a model of another name is simply not there
}
# Low limits, since the tool takes long to make up long texts; the document tells those of the settings.
LIMITS = {"max_characters": 100, "max_texts": 6, "rate_limit": "10000000/minute"}


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("openapi"), require_keys=True) as world:
        answer = world.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        return answer.json()


def operations(document):
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_says_what_it_is(document):
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "gapnlp"
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}


def test_every_operation_is_described_with_an_example_of_what_it_takes_and_gives(document):
    schemas = document["components"]["schemas"]
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        bodies = [response.get("content", {}) for response in operation["responses"].values()]
        bodies.append(operation.get("requestBody", {}).get("content", {}))
        for content in bodies:
            for media in content.values():
                schema = media["schema"]
                references = [one["$ref"] for one in schema.get("oneOf", [schema]) if "$ref" in one]
                for reference in references:
                    found = schemas[reference.rpartition("/")[2]]
                    assert found.get("examples"), (name, reference)


def test_every_example_fits_its_schema(document):
    for name, schema in document["components"]["schemas"].items():
        root = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        validator = jsonschema_rs.validator_for(root)
        for example in schema.get("examples", []):
            validator.validate(example)


def test_what_needs_a_key_says_so_and_what_does_not_does_not(document, tmp_path):
    for name, operation in operations(document):
        is_open = name in {"GET /livez", "GET /readyz", "GET /v1/gaps", "GET /v2"} or name.endswith(("/live", "/ready"))
        assert ("security" in operation) is not is_open, name
        assert ("401" in operation["responses"]) is not is_open, name
    with fake_world(tmp_path) as world:
        loopback = world.get("/openapi.json").json()
    assert not [name for name, operation in operations(loopback) if "security" in operation]
    assert not [name for name, operation in operations(loopback) if {"401", "403"} & set(operation["responses"])]


def test_the_document_tells_the_limits_of_the_settings(tmp_path):
    chosen = settings_for(tmp_path, max_characters=123, max_texts=7)
    text = openapi_document(create_app(chosen, classifier=fake_classifier()), chosen).decode()
    assert '"maxLength":123' in text
    assert '"maxItems":7' in text
    assert '"maxLength":20000' not in text
    assert '"maxItems":512' not in text


def test_the_pattern_of_a_text_is_what_texts_are_checked_by():
    pattern = re.compile(VISIBLE)
    for code in (*range(0x32000), *range(0xE0000, 0xE0200), sys.maxunicode):
        char = chr(code)
        # Lone surrogates are no characters; hieroglyph controls are known to newer Pythons alone.
        if unicodedata.category(char) == "Cs" or 0x13439 <= code <= 0x1343F:
            continue
        try:
            check_text(char)
            visible = True
        except InputError:
            visible = False
        assert bool(pattern.search(char)) is visible, f"U+{code:04X}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Make of a request that fits what OpenAPI has no words for."""
    if not case.meta or case.meta.generation.mode != schemathesis.GenerationMode.POSITIVE:
        return
    if case.path.endswith("/infer") and isinstance(case.body, dict) and case.body.get("inputs"):
        for tensor in case.body["inputs"]:  # as many texts as the shape says
            tensor["shape"] = [len(tensor["data"])]
    if case.path.endswith("/archive"):
        kind = next(kind for kind, media_type in MEDIA_TYPES.items() if media_type == case.media_type)
        kwargs["data"] = ARCHIVES[kind]
        if "text_column" in case.query:
            case.query["text_column"] = "comment"
    if "Idempotency-Key" in (case.headers or {}):  # another key for another request
        case.headers["Idempotency-Key"] = uuid.uuid4().hex


def check(tmp_path, *, n_examples, needs_keys=False, **config):
    """Run schemathesis on the whole document; return what failed, how much was tried, and of which operations."""
    chosen = settings_for(tmp_path, require_keys=needs_keys, **LIMITS)
    app = create_app(chosen, classifier=fake_classifier(), validation=fake_validation())
    config |= {**CONFIG, "generation": {"max-examples": n_examples}, "seed": 1}
    if needs_keys:
        config["headers"] = {"Authorization": f"Bearer {make_key(chosen)}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=SchemathesisConfig.from_dict(config))
    failures, n_cases, labels = [], 0, set()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            labels.add(event.label)
            for nodes in event.recorder.checks.values():
                n_cases += 1
                failures += [f"{event.label}: {node.failure_info.failure}" for node in nodes if node.failure_info]
        if isinstance(event, events.NonFatalError | events.FatalError):
            failures.append(str(event))
    return failures, n_cases, labels


def make_key(chosen):
    """Make a key that opens everything, before the service is started."""
    store = Store.open(chosen.database_url.get_secret_value())
    with store.begin() as conn:
        _, key = store.keys.create(conn, "test", scopes=SCOPES, now=datetime.now(UTC))
    store.close()
    return key


def test_the_service_keeps_to_its_document(tmp_path, document):
    failures, n_cases, labels = check(tmp_path, n_examples=25, phases={"stateful": {"enabled": False}})
    assert failures == []
    assert {name for name, _ in operations(document)} <= labels
    assert n_cases > 25 * 8


@pytest.mark.slow
@pytest.mark.parametrize("needs_keys", [False, True])
def test_the_service_keeps_to_its_document_at_length(tmp_path, needs_keys):
    failures, n_cases, _ = check(tmp_path, n_examples=100, needs_keys=needs_keys)
    assert failures == []
    assert n_cases > 100 * 8
