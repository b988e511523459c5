"""The files that run the service elsewhere name what is there, and keep what the page about them promises."""

import ast
import json
import re
import shlex
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gapnlp.records import Prediction
from serve.cli.settings import markdown_table
from serve.drift import FEWEST, OUTCOMES, WINDOW
from serve.helpdesk.worker import GIVEN_UP
from serve.metrics import Metrics
from serve.security import REMEMBERED_SECONDS
from serve.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
SERVE = ROOT / "serve"
DEPLOY = SERVE / "deploy"
PAGE = ROOT / "docs" / "service.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def read(path):
    return path.read_text(encoding="utf-8")


def settings_of(environment):
    """Return the settings that the variables name which a file sets; whatever is unknown stays as it is."""
    return {name.removeprefix(PREFIX).lower() for name in environment if name.startswith(PREFIX)}


# The image


def dockerfile():
    """Return the instructions as (name, rest), continued lines joined and comments left out."""
    lines = [line for line in read(SERVE / "Dockerfile").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def instructions(name):
    return [rest for found, rest in dockerfile() if found == name]


def test_every_source_that_the_image_copies_is_there_and_not_ignored():
    ignored = (SERVE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:].split("/")[0] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    sources = [source for rest in instructions("COPY") if "--from" not in rest for source in shlex.split(rest)[:-1]]
    assert len(sources) > 5
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in let_in, f"{source} is copied, but Dockerfile.dockerignore leaves it out"


def test_the_wheel_of_the_image_finds_all_that_it_is_built_from():
    sources = {Path(source).name for rest in instructions("COPY") for source in shlex.split(rest)[:-1]}
    build = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(build["packages"]) <= sources
    assert {"pyproject.toml", "hatch_build.py", "models", PROJECT["readme"], *PROJECT["license-files"]} <= sources


def test_the_image_installs_the_extras_of_the_service_and_no_torch():
    install = next(rest for rest in instructions("RUN") if "pip install" in rest)
    extras = re.search(r"gapnlp-\*\.whl\)\[([\w,]+)\]", install)[1].split(",")
    assert extras == ["serve", "tracing"]
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert not {"torch", "transformers"} & closure(extras)


def test_the_image_runs_as_a_user_without_rights_and_keeps_its_data_apart():
    assert [name for name, _ in dockerfile()].count("FROM") == 2
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: Kubernetes cannot tell that a name is not root"
    last = max(index for index, (name, _) in enumerate(dockerfile()) if name == "FROM")
    assert not any("pip" in rest for name, rest in dockerfile()[last:] if name == "RUN"), "nothing is built in it"
    environment = dict(part.split("=", 1) for part in shlex.split(" ".join(instructions("ENV"))))
    assert settings_of(environment) <= set(Settings.model_fields)
    assert environment["GAPNLP_DATABASE_URL"].startswith("sqlite:////data/")
    assert instructions("VOLUME") == ["/data"]
    assert instructions("EXPOSE") == [environment["GAPNLP_PORT"]]


def test_the_image_says_whether_it_is_healthy():
    (check,) = instructions("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python", "-c"]
    assert "/readyz" in command[2]
    ast.parse(command[2])


def test_the_image_starts_the_service():
    assert json.loads(instructions("ENTRYPOINT")[0]) + json.loads(instructions("CMD")[0]) == ["gapnlp", "serve"]
    assert PROJECT["entry-points"]["gapnlp.commands"]["serve"] == "serve.cli.serve:serve"


# What the service imports


def closure(extras):
    """Return the distributions that an installation with these extras brings, by what is installed here."""
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    wanted += [Requirement(line) for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    found = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in found:
            continue
        found.add(key)
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for line in needs:
            need = Requirement(line)
            marker_extras = requirement.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in marker_extras):
                wanted.append(need)
    return {name for name, _ in found}


def imported(path):
    """Return the top packages that a module imports, in functions too, but not for types alone."""
    tree = ast.parse(read(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_what_the_service_imports_is_installed_with_it():
    owners = packages_distributions()
    ours = {"gapnlp", "serve", "training"} | set(sys.stdlib_module_names)
    missing = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in SERVE.rglob("*.py")
        for package in set(imported(path)) - ours
        if not {canonicalize_name(name) for name in owners.get(package, [])} & closure(["serve", "tracing"])
    }
    assert missing == set()


# Compose


def compose():
    return yaml.safe_load(read(SERVE / "compose.yaml"))["services"]


def test_compose_binds_only_files_that_are_there():
    for name, service in compose().items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (SERVE / source).exists(), f"{name}: {source}"
    build = compose()["gapnlp"]["build"]
    assert (SERVE / build["context"] / build["dockerfile"]).samefile(SERVE / "Dockerfile")


def test_compose_opens_ports_to_this_machine_alone_and_holds_no_password():
    for service in compose().values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert re.findall(r"PASSWORD: (?!\$\{\w+:\?)", read(SERVE / "compose.yaml")) == []


def test_the_service_in_compose_has_no_rights_and_time_to_end():
    service = compose()["gapnlp"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert settings_of(service["environment"]) <= set(Settings.model_fields)
    defaults = Settings.model_fields
    needed = defaults["drain_seconds"].default + defaults["shutdown_seconds"].default
    assert int(service["stop_grace_period"].removesuffix("s")) > needed


# Kubernetes


def kubernetes(kind):
    documents = list(yaml.safe_load_all(read(DEPLOY / "kubernetes.yaml")))
    return next(document for document in documents if document["kind"] == kind)


def container():
    (found,) = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def test_kubernetes_asks_each_probe_what_it_is_for():
    paths = {name: container()[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def test_kubernetes_gives_a_pod_time_to_end_and_others_to_look_elsewhere():
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    wait = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    defaults = Settings.model_fields
    needed = wait + defaults["drain_seconds"].default + defaults["shutdown_seconds"].default
    assert wait > 0
    assert pod["terminationGracePeriodSeconds"] > needed


def test_a_pod_has_no_rights_and_bounded_memory():
    for pod in (kubernetes("Deployment")["spec"]["template"]["spec"], kubernetes("Pod")["spec"]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in instructions("USER")
        (inside,) = pod["containers"]
        assert inside["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(inside["resources"])
        assert inside["resources"]["limits"]["memory"]


def test_kubernetes_sets_real_settings_and_takes_secrets_from_a_secret():
    environment = {entry["name"]: entry["value"] for entry in container()["env"]}
    assert settings_of(environment) <= set(Settings.model_fields)
    assert container()["envFrom"] == [{"secretRef": {"name": "gapnlp"}}]
    assert not any("URL" in name or "PASSWORD" in name for name in environment)
    assert str(container()["ports"][0]["containerPort"]) == environment["GAPNLP_PORT"]


def test_the_images_in_kubernetes_are_of_this_version():
    for pod in (kubernetes("Deployment")["spec"]["template"]["spec"], kubernetes("Pod")["spec"]):
        assert [inside["image"] for inside in pod["containers"]] == [f"gapnlp:{PROJECT['version']}"]


# Prometheus and Grafana


@pytest.fixture(scope="module")
def exported():
    """Every metric that the service can show, by name, with the names of its labels."""
    metrics = Metrics()
    metrics.request("/v1/classify", "POST", status=200, seconds=0.1)
    metrics.shed()
    metrics.batch(1, 10, 0.1)
    metrics.predictions([Prediction((), (0.0,) * 5, (), review=True, truncated=False, model="tiny@1.0")], "api")
    metrics.model("tiny@1.0")
    metrics.delivery("zendesk", GIVEN_UP)
    found = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions():
    """Return every query of the dashboard and the alerts, with where it stands."""
    board = json.loads(read(DEPLOY / "grafana" / "gapnlp.json"))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def rules():
    (group,) = yaml.safe_load(read(DEPLOY / "alerts.yml"))["groups"]
    return group["rules"]


def names_in(expression):
    """Return the metrics of a query: every name with a low line in it that is no function, label or value."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\b(?:by|without)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"\b([a-z][a-z0-9]*(?:_[a-z0-9]+)+)\b(?!\s*\()", bare))


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda value: value[:40])
def test_every_query_asks_for_metrics_that_the_service_shows(exported, where, expression):
    names = names_in(expression)
    assert names or "up{" in expression, where
    assert names <= set(exported), f"{where} asks for what is not there"


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda value: value[:40])
def test_every_query_groups_and_filters_by_labels_that_are_there(exported, where, expression):
    known = {"instance", "job", "le"}.union(*(exported[name] for name in names_in(expression)))
    grouped = {label.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in group.split(",")}
    filtered = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    assert grouped | filtered <= known, where


def test_a_query_for_what_is_not_there_would_be_found():
    assert names_in('sum by (a_b) (rate(gapnlp_shed_total{c_d="x_y"}[5m])) / up') == {"gapnlp_shed_total"}
    assert names_in("gapnlp_nonsense > 1") == {"gapnlp_nonsense"}


def test_the_dashboard_shows_all_that_the_service_counts(exported):
    shown = {SUFFIXES.sub("", name) for _, expression in expressions() for name in names_in(expression)}
    own = {SUFFIXES.sub("", name) for name in exported if name.startswith("gapnlp_")}
    assert own - shown <= {"gapnlp_texts_failed_total", "gapnlp_label_window_texts"}


def test_alerts_name_labels_and_values_that_can_come_up(exported):
    text = read(DEPLOY / "alerts.yml")
    assert f'outcome="{GIVEN_UP}"' in text
    for rule in rules():
        assert {"summary", "description"} <= set(rule["annotations"]), rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_prometheus_finds_the_alerts_and_the_service():
    config = yaml.safe_load(read(DEPLOY / "prometheus.yml"))
    assert all((DEPLOY / name).is_file() for name in config["rule_files"])
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "gapnlp"
    assert job["static_configs"][0]["targets"] == ["gapnlp:8080"]
    assert "gapnlp" in compose()


def test_grafana_finds_its_source_and_its_dashboard():
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load(read(provisioning / "datasources" / "prometheus.yaml"))["datasources"]
    board = read(DEPLOY / "grafana" / "gapnlp.json")
    assert set(re.findall(r'"type": "prometheus",\s*"uid": "([^"]*)"', board)) == {source["uid"]}
    (provider,) = yaml.safe_load(read(provisioning / "dashboards" / "gapnlp.yaml"))["providers"]
    mounts = [volume.split(":")[1] for volume in compose()["grafana"]["volumes"]]
    assert any(mount.startswith(provider["options"]["path"]) for mount in mounts)


# The page


def test_the_page_lists_every_setting_as_it_is():
    table = re.search(r"<!-- settings -->\n(.*?)<!-- /settings -->", read(PAGE), re.DOTALL)[1]
    assert table.strip() == markdown_table().strip(), "run  gapnlp settings --markdown  and put its output there"


def test_the_page_lists_every_metric(exported):
    own = {SUFFIXES.sub("", name) for name in exported if name.startswith("gapnlp_")}
    assert {name for name in own if f"`{name}`" not in read(PAGE)} == set()


def test_the_page_lists_every_alert():
    assert [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in read(PAGE)] == []


def test_the_page_tells_the_numbers_of_the_code():
    page = read(PAGE)
    assert f"{WINDOW:,}" in page
    assert f"{FEWEST} texts" in page
    assert f"within {REMEMBERED_SECONDS} seconds" in page
    assert OUTCOMES[-1] == "none"


def test_the_page_names_files_that_are_there():
    for path in re.findall(r"`(serve/[\w./-]+)`", read(PAGE)):
        assert (ROOT / path).exists(), path
