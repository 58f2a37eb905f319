"""Deployment files against the tools and schemas of those that read them; no engine and no cluster runs here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.metrics import Metrics
from server.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "amira"
KUBERNETES = "1.31"
FROM_PROMETHEUS = {"up"}


def every(node: Any, key: str) -> Iterator[Any]:
    """All values under `key`, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from every(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from every(value, key)


# Dockerfile


def test_the_dockerfile_has_no_lint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.is_file():
        pytest.skip("hadolint is not installed (its package has Linux on x86-64 alone)")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_small_and_not_root_and_knows_its_health() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    last = text[text.rindex("\nFROM ") :]
    assert " AS server" in last
    for line in ("USER 10001", "HEALTHCHECK", "STOPSIGNAL SIGTERM", 'ENTRYPOINT ["python", "-m", "server"]'):
        assert line in last
    assert text.count("\nFROM ") >= 3


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), source


def test_the_repository_for_triton_is_filled(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "triton" / "fill.py", tmp_path / "models"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "AMIRA_HOME": str(tmp_path)},
    )
    assert "preprocessor" in done.stdout.split()
    assert "left out" in done.stderr  # no model is built there
    assert (tmp_path / "models" / "moonshine-encoder" / "config.pbtxt").is_file()


# docker compose


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text("utf-8"))
    return document


def test_compose_keeps_to_its_specification() -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="its package has Linux alone")
    parsed = compose_spec.PyCompose.from_yaml((DEPLOY / "docker-compose.yml").read_text("utf-8"))
    parsed.validate()
    assert set(parsed.services) == {"amira", "triton", "triton-models", "prometheus", "grafana", "jaeger"}


def test_compose_mounts_and_builds_what_is_there(compose: dict[str, Any]) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), (name, volume)
        if "build" in service:
            assert f" AS {service['build']['target']}\n" in dockerfile
        for other in service.get("depends_on", []):
            assert other in compose["services"]
        assert ":latest" not in service.get("image", "")


def test_compose_gives_sessions_their_grace(compose: dict[str, Any]) -> None:
    grace_s = load(DEPLOY / "server.toml", {}).grace_ms / 1_000
    assert float(compose["services"]["amira"]["stop_grace_period"].removesuffix("s")) > grace_s


def test_the_servers_settings_are_settings() -> None:
    settings = load(DEPLOY / "server.toml", {})
    assert settings.recognizer.settled_by.variants["acoustic"] == "acoustic/triton@fp32"
    assert settings.otlp_endpoint == "http://jaeger:4318"


# Prometheus and Grafana


def series() -> dict[str, set[str]]:
    """Every series that the server exports, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in Metrics().registry.collect():
        labelled = getattr(metric, "samples", [])
        for sample in labelled:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def declared() -> dict[str, set[str]]:
    """Series by their declaration: those with labels have no sample before their first use."""
    found = series()
    for metric in vars(Metrics()).values():
        labels, name = getattr(metric, "_labelnames", None), getattr(metric, "_name", None)
        if labels is None:
            continue
        suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[metric._type]
        for suffix in suffixes:
            found.setdefault(name + suffix, set()).update(labels)
            if suffix == "_bucket":
                found[name + suffix].add("le")
    return found


def expressions() -> list[tuple[str, str]]:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
    found = [(rule["alert"], rule["expr"]) for group in alerts["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "amira.json").read_text("utf-8"))
    for panel in dashboard["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", [])]
    [rule] = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yml").read_text("utf-8"))
    query = rule["metricsQuery"]
    for placeholder, value in (
        ("<<.GroupBy>>", "pod"),
        ("<<.Series>>", rule["seriesQuery"].partition("{")[0]),
        ("<<.LabelMatchers>>", 'pod="p"'),
    ):
        query = query.replace(placeholder, value)
    return [*found, ("rule of the adapter", query)]


@pytest.mark.parametrize(("title", "expression"), expressions(), ids=[title for title, _ in expressions()])
def test_what_is_watched_is_what_the_server_exports(title: str, expression: str) -> None:
    promql = pytest.importorskip("promql_parser", reason="its package has Linux alone")
    ours, given = declared(), {"instance", "job", "pod", "namespace"}
    selectors = list(_selectors(promql.parse(expression.replace("$__rate_interval", "1m")), promql))
    assert selectors
    for selector in selectors:
        if selector.name in FROM_PROMETHEUS:
            continue
        assert selector.name in ours, f"{selector.name} is no metric of the server"
        for matcher in selector.matchers.matchers:
            assert matcher.name in ours[selector.name] | given, (selector.name, matcher.name)


def _selectors(node: Any, promql: Any) -> Iterator[Any]:
    if isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.BinaryExpr):
        yield from _selectors(node.lhs, promql)
        yield from _selectors(node.rhs, promql)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from _selectors(argument, promql)
    elif isinstance(node, promql.AggregateExpr | promql.ParenExpr):
        yield from _selectors(node.expr, promql)


def test_every_alert_has_its_paragraph_in_the_guide() -> None:
    guide = (ROOT / "OPERATIONS_GUIDE.md").read_text("utf-8")
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
    for name in every(alerts, "alert"):
        assert f"`{name}`" in guide


def test_panels_do_not_overlap_and_have_a_source() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    known = {source["uid"] for source in provisioned["datasources"]}
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "amira.json").read_text("utf-8"))
    assert {source["uid"] for source in every(dashboard, "datasource")} <= known
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


# Kubernetes


def rendered(**values: Any) -> list[dict[str, Any]]:
    """The chart's manifests, rendered by Helm's own engine."""
    helm = pytest.importorskip("helm_python.chart", reason="its package has Linux on x86-64 alone")
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="speech", namespace="default")
    return [
        manifest
        for path, text in files.items()
        if path.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


EVERYTHING = {
    "canary": {"replicas": 1, "tag": "0.2.0"},
    "ingress": {"enabled": True, "host": "speech.example", "tlsSecret": "tls"},
    "tokensSecret": "tokens",
    "otlpEndpoint": "http://jaeger:4318",
    "tritonUrl": "triton:8001",
}


@pytest.mark.parametrize("values", [{}, {"autoscaling": {"enabled": False}}, EVERYTHING], ids=["as is", "fixed", "all"])
def test_the_chart_renders_what_kubernetes_knows(values: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    manifests = rendered(**values)
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    kinds = [manifest["kind"] for manifest in manifests]
    assert kinds.count("Deployment") == (2 if "canary" in values else 1)
    assert kinds.count("HorizontalPodAutoscaler") == (0 if "autoscaling" in values else 1)
    assert kinds.count("Ingress") == ("ingress" in values)


def test_the_chart_sets_settings_that_the_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for deployment in (manifest for manifest in rendered(**EVERYTHING) if manifest["kind"] == "Deployment"):
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        for variable in container["env"]:
            monkeypatch.setenv(variable["name"], variable.get("value", '["a-token"]'))
        settings: Settings = load(None, {})
        assert settings.grace_ms < 1_000 * deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert [token.get_secret_value() for token in settings.tokens] == ["a-token"]
        assert settings.limits.max_sessions == 50


def test_it_scales_on_queue_time() -> None:
    [scaler] = [manifest for manifest in rendered() if manifest["kind"] == "HorizontalPodAutoscaler"]
    [metric] = scaler["spec"]["metrics"]
    [rule] = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yml").read_text("utf-8"))
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    names = [manifest["metadata"]["name"] for manifest in rendered() if manifest["kind"] == "Deployment"]
    assert scaler["spec"]["scaleTargetRef"]["name"] in names


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 0},
        {"autoscaling": {"queueTime": "50ms"}},
        {"settings": {"MAX_SESSIONS": "1"}},
        {"canary": {"replicas": 1}},
        {"ingress": {"enabled": True}},
        {"typo": 1},
    ],
)
def test_the_chart_refuses_values_that_make_no_sense(values: dict[str, Any]) -> None:
    errors = pytest.importorskip("helm_python.errors", reason="its package has Linux on x86-64 alone")
    with pytest.raises(errors.HelmError):
        rendered(**values)


# ECS


def test_the_task_is_one_that_ecs_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's own description of the call; names, types and enumerations, no account."""
    session = pytest.importorskip("botocore.session").get_session()
    validate = pytest.importorskip("botocore.validate")
    task = json.loads((DEPLOY / "ecs" / "task-definition.json").read_text("utf-8"))
    operation = session.get_service_model("ecs").operation_model("RegisterTaskDefinition")
    report = validate.ParamValidator().validate(task, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    [container] = task["containerDefinitions"]
    for variable in container["environment"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    assert load(None, {}).grace_ms < 1_000 * container["stopTimeout"]
    assert container["stopTimeout"] <= 120  # Fargate's most
