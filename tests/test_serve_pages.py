"""The page for people: self-contained, safe, usable without a mouse or eyes."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from service_world import fake_world

import serve
from gapnlp.taxonomy import LABELS

STATIC = Path(serve.__file__).parent / "static"


class Page(HTMLParser):
    """All tags of a page, with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fake_world(tmp_path_factory.mktemp("page")) as world:
        yield world


@pytest.fixture(scope="module")
def html(world):
    answer = world.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def test_the_page_takes_nothing_from_elsewhere(world, html):
    page = Page(html)
    addresses = [attrs.get("src") or attrs.get("href") for tag in ("script", "link", "img") for attrs in page.all(tag)]
    assert len(addresses) == 3
    for address in addresses:
        assert not re.match(r"\w+:|//", address)
        assert world.get(f"/{address}").status_code == 200
    assert "//" not in re.sub(r'xmlns="[^"]*"|//[^\n]*$', "", (STATIC / "icon.svg").read_text())
    assert not re.search(r"url\(|@import|https?:", (STATIC / "page.css").read_text())
    assert not re.search(r"https?:|import\(", (STATIC / "page.js").read_text())


def test_the_page_needs_no_exception_from_the_policy(html):
    page = Page(html)
    assert not page.all("style")
    assert all("src" in attrs for attrs in page.all("script"))
    for _, attrs in page.tags:
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]


def test_texts_become_text_never_markup():
    script = (STATIC / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", script)
    assert "textContent" in script


def test_every_field_has_a_name_and_every_reference_a_target(html):
    page = Page(html)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    labelled = {attrs["for"] for attrs in page.all("label") if "for" in attrs}
    for attrs in page.all("textarea") + [a for a in page.all("input") if a["type"] != "checkbox"]:
        assert attrs["id"] in labelled
    for _, attrs in page.tags:
        for name in ("for", "aria-describedby", "aria-labelledby", "aria-controls"):
            assert set(attrs.get(name, "").split()) <= set(ids)
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', (STATIC / "page.js").read_text())) - {"key"}
    assert wanted <= set(ids)
    assert page.all("html")[0]["lang"] == "en"
    assert {attrs["value"] for attrs in page.all("input") if attrs["type"] == "checkbox"} == set(LABELS)


def test_the_key_field_is_there_only_where_keys_are_asked_for(tmp_path, html):
    assert 'id="key"' not in html
    with fake_world(tmp_path, require_keys=True) as world:
        page = Page(world.get("/").text)
        (field,) = [attrs for attrs in page.all("input") if attrs.get("id") == "key"]
        assert (field["type"], field["autocomplete"]) == ("password", "off")


def test_feedback_is_asked_for_only_where_it_can_be_kept(tmp_path, html):
    assert 'id="judge"' in html
    with fake_world(tmp_path, store_predictions=False, max_characters=99) as world:
        page = world.get("/").text
        assert 'id="judge"' not in page
        assert 'maxlength="99"' in page


def test_files_may_be_kept_only_under_the_address_of_their_version(world, html):
    (script,) = Page(html).all("script")
    assert "immutable" in world.get(f"/{script['src']}").headers["cache-control"]
    assert world.get("/static/page.js?v=old").headers["cache-control"] == "no-cache"
    assert world.get("/static/page.js").headers["content-type"].startswith("text/javascript")
    for path in ("/static/", "/static/../app.py", "/static/%2e%2e/app.py", "/static/page.html.j2"):
        assert world.get(path).status_code == 404


@pytest.mark.skipif(not shutil.which("node"), reason="node, which runs the page's script here, is not installed")
def test_evidence_is_cut_by_code_points():
    script = (STATIC / "page.js").read_text()
    cut = script[script.index("function cut(") : script.index("function marked(")]
    text, passages = "🤬 naïve slow, and more", [("delivery", 2, 12), ("policy", 8, 18)]
    evidence = [{"label": label, "start": start, "end": end} for label, start, end in passages]
    program = f"{cut}; console.log(JSON.stringify(cut({json.dumps(text)}, {json.dumps(evidence)})))"
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True, timeout=20)
    pieces = json.loads(done.stdout)
    assert "".join(piece["piece"] for piece in pieces) == text
    for label, start, end in passages:
        assert "".join(p["piece"] for p in pieces if label in p["labels"]) == text[start:end]
        assert [p["piece"][-1] for p in pieces if label in p["ending"]] == [text[end - 1]]
