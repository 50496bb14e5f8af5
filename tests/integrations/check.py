#!/usr/bin/env python3
"""Every script of data/integrations on a fixture: what it writes is read by mlflow, the SDK of
Label Studio (against a server made here) and prometheus_client. laplora is in PATH, and these
packages are in PYTHONPATH."""
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree

import yaml
from mlflow import MlflowClient
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIXTURE = os.path.join(ROOT, "tests/fixtures/parity/bert")
USES = os.path.join(ROOT, "data/integrations")
CLASSES = ["yes", "no", "per, haps"]
checks = 0


def check(holds, what):
    global checks
    checks += 1
    if not holds:
        sys.exit("check-integrations: FAILED: " + what)


def run(command, code=0, **env):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    check(done.returncode == code, "%s: exit code %d, expected %d: %s%s" % (
        command, done.returncode, code, done.stdout, done.stderr))
    return done


def prepare():
    """posterior.h5 and labelled rows that have a text, here."""
    run(["laplora", "fit", "--base", FIXTURE + "/base", "--adapter", FIXTURE + "/adapter", "--data",
         FIXTURE + "/calib.jsonl", "--labels", "yes,no,per\\, haps", "--out", "posterior.h5",
         "--quiet"])
    with open("heldout.jsonl", "w") as out:
        for i, line in enumerate(open(FIXTURE + "/test.jsonl")):
            row = json.loads(line)
            row.update(text="text %d \u2028 \"%%\"" % i, lang=["en", "de"][i % 2])
            out.write(json.dumps(row) + "\n")


def run_job(path, script_of, code, **env):
    """The line of a job that calls gate, with other bounds: a part of a script in YAML."""
    lines = [line for line in script_of(yaml.safe_load(open(os.path.join(USES, path))))
             if "integrations/gate" in line]
    check(len(lines) == 1, path + " calls gate once")
    line = lines[0].replace("laplora/data/integrations", USES)
    check("--max ece=0.05" in line, path + " has a gate")
    line = line.replace("ece=0.05", "ece=0") if code else re.sub("--m.*", "--max ece=1", line)
    return run(["bash", "-c", line + " --by lang"], code, PREDICT="--keep lang", **env)


def github():
    def script(job):
        return [step["run"] for step in job["jobs"]["confidence"]["steps"] if "run" in step]

    on = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": os.path.abspath("summary.md")}
    done = run_job("github.yml", script, 1, **on)
    commands = [line for line in done.stdout.split("\n") if line.startswith("::")]
    errors = [line for line in commands if re.fullmatch(
        r"::error title=gate ece::ece is 0\.\d+, expected max 0 \(\d+ rows\)", line)]
    check(len(errors) == 1, "an error for a failed gate: " + done.stdout)
    check(all(re.match(r"::(error|warning) title=[^:,]+::.", line) for line in commands),
          "annotations: %s" % commands)
    summary = open("summary.md").read()
    check(re.search(r"^\|.*ece", summary, re.M), "a table in the summary: " + summary)
    done = run_job("github.yml", script, 0, **on)
    check("::error" not in done.stdout, "no error where gates pass")
    check(open("summary.md").read().startswith(summary) and
          len(open("summary.md").read()) > len(summary), "the summary is appended to")
    # slices and characters that the form gives a meaning
    json.dump({"n": 9, "gates": [{"metric": "auroc", "kind": "min", "bound": 0.5, "value": None,
                                  "pass": False}],
               "slices": [{"field": "lang", "value": "a:b,\n%", "n": 4, "flags": ["error"]},
                          {"field": "lang", "value": "en", "n": 5, "flags": []}]},
              open("slices.json", "w"))
    check(run([USES + "/annotate", "slices.json"]).stdout ==
          "::error title=gate auroc::auroc is undefined, expected min 0.5 (9 rows)\n"
          "::warning title=slice lang=a%3Ab%2C%0A%25::error, 4 rows\n", "escapes of annotations")


def gitlab():
    done = run_job("gitlab.yml", lambda job: job["confidence"]["script"], 1)
    check("::" not in done.stdout, "annotations are GitHub's alone")
    job = yaml.safe_load(open(USES + "/gitlab.yml"))["confidence"]["artifacts"]
    check(job["when"] == "always", "artifacts of failed jobs")
    suite = xml.etree.ElementTree.parse(job["reports"]["junit"]).getroot()
    cases = {case.get("name"): case.find("failure") for case in suite.iter("testcase")}
    check(len(cases) == 2 and any(f is not None for f in cases.values()), "JUnit: %s" % cases)
    text = open(job["reports"]["metrics"]).read()
    read_metrics(openmetrics_parser.text_string_to_metric_families(text))
    check(text.endswith("# EOF\n"), "the end of OpenMetrics")


def read_metrics(families):
    """Samples of both models, equal to those of the report."""
    report = json.load(open("confidence/report.json"))
    found = {(sample.name, sample.labels.get("model")): sample.value
             for family in families for sample in family.samples}
    for model, key in ("posterior", "metrics"), ("map", "map_metrics"):
        for name, value in report[key].items():
            check(found.get(("laplora_" + name, model)) == value,
                  "%s of %s: %s, expected %s" % (name, model, found, value))


def textfile():
    os.mkdir("textfiles")
    for _ in range(2):
        run([USES + "/textfile", "confidence/predictions.jsonl", "textfiles"])
    check(os.listdir("textfiles") == ["laplora.prom"], "nothing but the file")
    read_metrics(parser.text_string_to_metric_families(open("textfiles/laplora.prom").read()))


def mlflow():
    os.environ.update(MLFLOW_TRACKING_URI="file:" + os.path.abspath("mlruns"),
                      MLFLOW_ALLOW_FILE_STORE="true")
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment("e")).info.run_id
    run(["laplora", "report", "confidence/predictions.jsonl", "--write", "mlflow=mlflow.json"])
    run([USES + "/mlflow_log", "mlflow.json", run_id])
    report = json.load(open("confidence/report.json"))
    expected = {**{k: v for k, v in report["metrics"].items() if v is not None},
                **{"map_" + k: v for k, v in report["map_metrics"].items() if v is not None}}
    check(client.get_run(run_id).data.metrics == expected, "metrics of the run")
    check(len(client.get_metric_history(run_id, "ece")) == 1, "one value of a metric")


class Server(http.server.BaseHTTPRequestHandler):
    """Label Studio as far as the script asks it."""
    config = ('<View><Text name="text" value="$text"/><Choices name="label" toName="text">%s'
              '</Choices></View>')
    classes, imported = CLASSES, []

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        choices = "".join('<Choice value="%s"/>' % name for name in Server.classes)
        self.answer({"id": 7, "label_config": Server.config % choices})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/api/projects/7/import"):
            Server.imported.append(body)
        self.answer({"access": "token", "task_count": len(body)})

    def log_message(self, *args):
        pass


def label_studio():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {"LABEL_STUDIO_URL": "http://127.0.0.1:%d" % server.server_port,
           "LABEL_STUDIO_API_KEY": "0123456789abcdef0123456789abcdef01234567"}
    run(["laplora", "predict", "--posterior", "posterior.h5", "--data", "heldout.jsonl", "--keep",
         "text", "--out", "kept.jsonl", "--quiet"])
    run(["laplora", "report", "kept.jsonl", "--write", "label-studio=tasks.json"])
    command = [USES + "/label_studio_import", "tasks.json", "7"]
    run(command, **env)
    check(len(Server.imported) == 1, "one import")
    rows = sorted(map(json.loads, open("kept.jsonl")), key=lambda row: row["confidence"])
    tasks = Server.imported[0]
    check([t["data"]["text"] for t in tasks] == [r["fields"]["text"] for r in rows],
          "the least certain first")
    check([t["predictions"][0]["result"][0]["value"]["choices"] for t in tasks] ==
          [[r["prediction_label"]] for r in rows], "what was predicted")
    Server.classes = ["something else"]
    check("tasks.json: row" in run(command, 1, **env).stderr, "names that the project lacks")
    check(len(Server.imported) == 1, "nothing is imported then")
    server.shutdown()


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ.update(OMP_NUM_THREADS="1", NO_COLOR="1")
        prepare()
        for use in github, gitlab, textfile, mlflow, label_studio:
            use()
            print("  %s: works" % use.__name__)
        os.chdir(ROOT)
    print("check-integrations: %d checks passed" % checks)


main()
