"""What lies in deploy/, as far as it can be told without Docker and a cluster."""

import base64
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from agent.chains import CHAINS
from agent.config import load
from agent.counts import Counts
from agent.metrics import Metrics, State

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
TEXT = {"type": "object", "required": ["en"]}
# What OpenRecon's schema 1.1.0 asks for, by the labels of published packages.
LABEL = {
    "type": "object",
    "required": ["general", "reconstruction", "parameters"],
    "additionalProperties": False,
    "properties": {
        "general": {
            "type": "object",
            "required": ["name", "version", "vendor", "information", "id"],
            "properties": {
                "name": TEXT,
                "information": TEXT,
                "id": {"pattern": "^[a-z][a-z0-9]*$"},
                "version": {"pattern": r"^\d+\.\d+\.\d+$"},
            },
        },
        "reconstruction": {
            "type": "object",
            "required": ["transfer_protocol", "port", "emitter", "injector"],
            "properties": {
                "transfer_protocol": {
                    "properties": {"protocol": {"const": "ISMRMRD"}, "version": {"const": "1.4.1"}}
                },
                "port": {"const": 9002},
                "emitter": {"enum": ["raw", "image", "compleximage"]},
                "injector": {"enum": ["image", "compleximage"]},
                "can_use_gpu": {"type": "boolean"},
                "min_required_memory": {"type": "integer", "minimum": 0},
                "content_qualification_type": {"const": "RESEARCH"},
            },
        },
        "parameters": {
            "type": "array",
            "items": {
                "required": ["id", "label", "type", "default"],
                "properties": {
                    "label": TEXT,
                    "type": {"enum": ["choice", "boolean", "int", "double", "string"]},
                    "values": {"items": {"required": ["id", "name"]}},
                },
            },
        },
    },
}


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def copied(dockerfile: Path) -> list[str]:
    """Return what a Dockerfile copies from the checkout."""
    lines = dockerfile.read_text().replace("\\\n", " ").splitlines()
    words = [shlex.split(line)[1:] for line in lines if line.startswith("COPY ")]
    return [path for each in words if "--from" not in each[0] for path in each[:-1]]


def package():
    spec = importlib.util.spec_from_file_location("package", DEPLOY / "openrecon" / "package.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_image_is_not_root_and_copies_what_there_is():
    text = (DEPLOY / "Dockerfile").read_text()
    assert "USER 10001" in text and "USER root" not in text
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for path in copied(DEPLOY / "Dockerfile"):
        assert (ROOT / path).exists(), path
        assert f"!{path}" in ignored, path
    packages = {"agent", "bench", "engines", "gadgets", "protocols", "scanner"}
    assert packages <= set(copied(DEPLOY / "Dockerfile"))
    # The variant that nobody here can build says so.
    assert "gpu was never built" in text


@pytest.mark.parametrize("name", ["agent.yaml", "container.yaml"])
def test_settings_are_settings(name):
    settings = load(DEPLOY / name)
    assert settings.listen.port == 9002


def test_compose_is_sound():
    (compose,) = documents("compose.yaml")
    services = compose["services"]
    assert {"agent", "orthanc", "prometheus", "grafana"} == set(services)
    agent = services["agent"]
    assert agent["read_only"] and agent["cap_drop"] == ["ALL"]
    assert (DEPLOY / agent["build"]["context"] / agent["build"]["dockerfile"]).is_file()
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            known = (
                (DEPLOY / source).is_file() if source[0] == "." else source in compose["volumes"]
            )
            assert known, volume
    if shutil.which("docker"):
        check = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
        version = subprocess.run(["docker", "compose", "version"], capture_output=True)
        if version.returncode == 0:
            subprocess.run(check, check=True)


def test_compose_sends_to_its_orthanc(monkeypatch):
    (compose,) = documents("compose.yaml")
    for name, value in compose["services"]["agent"]["environment"].items():
        monkeypatch.setenv(name, value)
    (destination,) = load(DEPLOY / "container.yaml").outbox.destinations
    assert destination.host == "orthanc" and destination.port == 4242


def test_kubernetes_runs_it_confined():
    found = {each["kind"]: each for each in documents("kubernetes/boreside.yaml")}
    assert {"Deployment", "Service", "PersistentVolumeClaim", "NetworkPolicy"} == set(found)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert found["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}
    assert paths == {"/health", "/ready"}
    names = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == names
    assert (
        pod["terminationGracePeriodSeconds"] > load(DEPLOY / "container.yaml").limits.stop_seconds
    )


def test_systemd_finds_the_unit_sound_and_tight(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    # The programs of the unit stand elsewhere on this machine.
    text = (DEPLOY / "systemd" / "boreside.service").read_text()
    unit = tmp_path / "boreside.service"
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    unit.write_text(text.replace("/bin/kill", "/bin/true").replace("User=boreside", "User=daemon"))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    about = [line for line in done.stderr.splitlines() if "boreside.service" in line]
    assert about == []
    scored = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
    )
    if scored.returncode and "Overall" not in scored.stdout:
        pytest.skip(f"systemd-analyze cannot score here: {scored.stderr.strip()}")
    (score,) = re.findall(r"Overall exposure level.*: (\d+\.\d+)", scored.stdout)
    assert float(score) < 2.5


def test_commands_that_files_name_exist():
    from boreside import app

    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    texts += [path.read_text() for path in (ROOT / "docs").glob("*.md")]
    spoken = re.compile(r"(?:`|^|bin/|\s)boreside ((?:engine|audit|keys|protocol) [a-z]+)", re.M)
    named = {found for text in texts for found in spoken.findall(text)}
    single = {"serve", "doctor", "drain", "recover", "export"}
    for command in sorted(named | single):
        result = CliRunner().invoke(app, [*command.split(), "--help"])
        assert result.exit_code == 0, command


def test_the_dashboard_and_alerts_ask_for_metrics_that_there_are(tmp_path):
    settings = load(metrics={"port": 0}, spool={"folder": tmp_path})
    with Metrics(settings, lambda: State(0, False), Counts()) as metrics:
        served = {family.name for family in metrics.collect()}
    dashboard = json.loads((DEPLOY / "grafana" / "boreside.json").read_text())
    (rules,) = documents("prometheus/alerts.yml")
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    names = {name for each in asked for name in re.findall(r"\bboreside_\w+", each)}
    assert len(names) > 10
    assert {re.sub(r"_(total|bucket)$", "", name) for name in names} <= served
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_openrecon_label_is_as_its_schema_says():
    label = json.loads((DEPLOY / "openrecon" / "boreside_json_ui.json").read_text())
    jsonschema.validate(label, LABEL)
    (config,) = label["parameters"]
    choices = [value["id"] for value in config["values"]]
    assert config["id"] == "config" and config["default"] in choices
    assert set(choices) <= set(CHAINS)
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert label["general"]["version"] == project["version"]


def test_the_openrecon_package_carries_its_label():
    module = package()
    label = json.loads(base64.b64decode(module.metadata()))
    assert label["general"]["id"] == "boreside"
    image, stem = module.names()
    assert image == "openrecon_boreside_boreside:v0.1.0"
    assert stem == "OpenRecon_boreside_boreside_V0.1.0"
    text = (DEPLOY / "openrecon" / "Dockerfile").read_text()
    assert '"com.siemens-healthineers.magneticresonance.openrecon.metadata:1.1.0"' in text
    assert re.search(r'CMD \["boreside", "serve"', text)
    document = module.pdf(stem)
    start = int(document.rsplit(b"startxref\n", 1)[1].split()[0])
    assert document[start : start + 4] == b"xref" and document.endswith(b"%%EOF\n")
