"""Where findings go: a log, an exception, a warning, a file for code review, OpenTelemetry, Sentry."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import warnings

import pytest
import sentry_sdk
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from perfkit.errors import NPlusOneFound, NPlusOneWarning
from perfkit.integrations import opentelemetry, sentry
from perfkit.loading import Kind, reports
from tests.loading.findings import ROOT, at, finding


def test_a_log_line_has_the_facts_as_fields(caplog):
    """Text for people, and fields for what searches logs."""
    with caplog.at_level(logging.WARNING), reports.during("GET /bins"):
        reports.log([finding()])

    (record,) = caplog.records
    place = f"{ROOT}/app/jobs/clean.py:12 in nightly"
    assert record.getMessage() == f"lazy_load Bin.customer: 5 statements for 5 parents, at {place}"
    assert record.name == "perfkit.loading"
    assert {name: value for name, value in vars(record).items() if name.startswith("perfkit_")} == {
        "perfkit_during": "GET /bins",
        "perfkit_key": "lazy_load:Bin.customer@nightly",
        "perfkit_kind": "lazy_load",
        "perfkit_path": "Bin.customer",
        "perfkit_parents": 5,
        "perfkit_statements": 5,
        "perfkit_wasted_ms": 12.5,
        "perfkit_site": place,
        "perfkit_origin": f"{ROOT}/app/jobs/clean.py:10 in nightly",
        "perfkit_sql": "SELECT customers.id FROM customers WHERE customers.id = ?",
        "perfkit_fix": ".options(selectinload(Bin.customer))",
    }


def test_fail_raises_with_the_findings():
    """As values and as text; also in another process."""
    with pytest.raises(NPlusOneFound, match=r"selectinload\(Bin\.customer\)") as caught:
        reports.fail([finding(), finding("Bin.note")])

    assert caught.value.findings == (finding(), finding("Bin.note"))
    assert pickle.loads(pickle.dumps(caught.value)).findings == caught.value.findings  # noqa: S301 - our own


def test_warn_points_at_the_line_that_touched_it():
    """A filter can then name the module, and a terminal shows the line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reports.warn([finding(), finding(site=None), finding(site=None, origin=None)])

    assert [(each.category, each.lineno) for each in caught] == [(NPlusOneWarning, line) for line in (12, 10, 1)]
    assert caught[0].filename == at(12).file


def test_several_reports_are_one():
    """A report that raises keeps none of the others from being told."""
    told = []
    report = reports.several(reports.fail, told.append)

    with pytest.raises(NPlusOneFound):
        report([finding()])

    assert told == [[finding()]]


def test_several_takes_reports_only():
    """Where it is written, not in the first request that has a finding."""
    with pytest.raises(TypeError, match=r"several\('log'\): give functions"):
        reports.several(reports.fail, "log")


# ---- SARIF

REQUIRED = {
    "": {"version", "runs"},
    "run": {"tool"},
    "driver": {"name"},
    "rule": {"id"},
    "result": {"message"},
    "location": {"physicalLocation"},
}


@pytest.fixture
def sarif(tmp_path):
    def write(*findings, **options):
        file = tmp_path / "out/findings.sarif"
        report = reports.to_sarif(file, root=ROOT, **options)
        for each in findings:
            report([each])
        return json.loads(file.read_text())

    return write


def test_a_sarif_file_has_what_the_schema_requires(sarif):
    """SARIF 2.1.0, section 3; every kind has a rule, and each result names the one at its index."""
    document = sarif(*(finding(kind=kind) for kind in Kind))

    (run,) = document["runs"]
    driver = run["tool"]["driver"]
    parts = {
        "": [document],
        "run": [run],
        "driver": [driver],
        "rule": driver["rules"],
        "result": run["results"],
        "location": [place for each in run["results"] for place in each["locations"]],
    }
    assert document["version"] == "2.1.0"
    assert {name: [set() for _ in each] for name, each in parts.items()} == {
        name: [REQUIRED[name] - one.keys() for one in each] for name, each in parts.items()
    }
    assert len(run["results"]) == len(Kind)
    for each in run["results"]:
        assert driver["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
        assert each["message"].keys() == {"text"}
        assert each["level"] in {"none", "note", "warning", "error"}


def test_a_sarif_result_is_at_its_line_and_keeps_its_fingerprint(sarif):
    """Files from the root on; the query that loaded the parents is a related place; no path of this machine."""
    document = sarif(finding())

    ((result,), *_) = [run["results"] for run in document["runs"]]
    place = result["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "app/jobs/clean.py", "uriBaseId": "ROOT"},
        "region": {"startLine": 12},
    }
    assert result["relatedLocations"][0]["physicalLocation"]["region"] == {"startLine": 10}
    assert result["partialFingerprints"] == {"perfkitKey/v1": "lazy_load:Bin.customer@nightly"}
    assert str(ROOT) not in json.dumps(document)


def test_a_sarif_file_has_each_finding_once(sarif):
    """A loop that a hundred requests run is one place to repair; the order is that of the keys."""
    document = sarif(finding("Bin.note"), finding(), finding(statements=9))

    found = [(each["properties"]["path"], each["properties"]["statements"]) for each in document["runs"][0]["results"]]
    assert found == [("Bin.customer", 9), ("Bin.note", 5)]


def test_a_file_outside_of_the_root_is_an_address(sarif):
    """With spaces as addresses have them."""
    document = sarif(finding(site=at(3, file="/opt/a b.py")), finding("Bin.note", site=None, origin=None))

    first, second = document["runs"][0]["results"]
    assert first["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/a%20b.py"}
    assert second["locations"] == []


# ---- others' tools


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


def test_opentelemetry_gets_an_event_and_a_count(spans):
    """The counter has what is bounded by the code as attributes, the event all of it."""
    tracer, exporter = spans
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))  # once in a process; ours was made before it

    with tracer.start_as_current_span("GET /bins"):
        opentelemetry.report([finding(), finding("Bin.note", site=None)])
    opentelemetry.report([finding()])

    (span,) = exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["perfkit.finding"] * 2
    assert span.events[0].attributes["perfkit.path"] == "Bin.customer"
    assert span.events[0].attributes["perfkit.statements"] == 5
    assert "perfkit.site" not in span.events[1].attributes
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "perfkit.findings"
    counts = {(point.attributes["perfkit.path"], point.value) for point in metric.data.data_points}
    assert counts == {("Bin.customer", 2), ("Bin.note", 1)}


def test_opentelemetry_without_a_span_is_silent():
    """The API has one that records nothing."""
    assert not trace.get_current_span().is_recording()

    opentelemetry.report([finding()])


def test_sentry_gets_a_breadcrumb():
    """It goes with the next error of the same request."""
    sent = []
    client = sentry_sdk.Client(
        "https://key@sentry.invalid/1",
        before_send=lambda event, hint: sent.append(event),
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        sentry.report([finding()])
        sentry_sdk.capture_message("broken")
    client.close()

    (crumb,) = sent[0]["breadcrumbs"]["values"]
    assert crumb["message"] == "lazy_load Bin.customer: 5 statements for 5 parents"
    assert crumb["category"] == "perfkit"
    assert crumb["data"]["fix"] == ".options(selectinload(Bin.customer))"


@pytest.mark.parametrize(
    ("module", "hidden", "message"),
    [
        ("opentelemetry", "opentelemetry", "needs opentelemetry-api: pip install 'perfkit[otel]'"),
        ("sentry", "sentry_sdk", "needs sentry-sdk: pip install 'perfkit[sentry]'"),
    ],
)
def test_a_tool_that_is_missing_is_named_with_the_command(module, hidden, message):
    """At import, in the one file that is about it; nothing else needs it."""
    hide = f"import sys; sys.modules[{hidden!r}] = None; import perfkit.loading, perfkit.integrations.asgi"

    ran = subprocess.run(
        [sys.executable, "-c", f"{hide}; import perfkit.integrations.{module}"],
        capture_output=True,
        text=True,
        check=False,
    )

    last = ran.stderr.strip().splitlines()[-1]
    assert last == f"perfkit.errors.MissingExtra: perfkit.integrations.{module} {message}"
