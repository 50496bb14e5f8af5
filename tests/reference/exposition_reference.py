"""Checks the texts for monitoring under tests/fixtures/reports with prometheus_client's own
parsers: what they read is what report.json says. Run by hand: pip install prometheus_client."""

import json
import pathlib
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

folder = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "reports"
report = json.loads((folder / "report.json").read_text())


def expected():
    found = {("laplora_rows", ()): report["n"]}
    for key, model in (("metrics", "posterior"), ("map_metrics", "map")):
        for name, value in report[key].items():
            if value is not None:
                found["laplora_" + name, (("model", model),)] = value
    for s in report["slices"]:
        place = (("field", s["field"]), ("value", s["value"]))
        found["laplora_slice_rows", place] = s["n"]
        for name, value in s["metrics"].items():
            if value is not None:
                labels = tuple(sorted(place + (("model", "posterior"),)))
                found["laplora_slice_" + name, labels] = value
    return found


for suffix, parse in (("prometheus", prometheus), ("gitlab", openmetrics)):
    text = (folder / f"report.{suffix}").read_text()
    samples = {}
    for family in parse(text):
        assert family.type == "gauge" and family.documentation, family
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    wanted = expected()
    assert samples.keys() == wanted.keys(), samples.keys() ^ wanted.keys()
    assert all(samples[key] == value for key, value in wanted.items())
    print(f"{suffix}: {len(samples)} samples as in report.json")
sys.exit(0)
