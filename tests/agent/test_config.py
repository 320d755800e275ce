"""Settings: which source wins, and what a wrong one is told."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agent.config import Settings, SettingsError, load
from agent.console.settings import ConsoleSettings
from agent.control_settings import ControlSettings
from agent.exam_settings import ExamSettings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "agent.yaml"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    path = Path("settings.yaml")
    path.write_text(text)
    return path


def test_the_shipped_example_states_the_defaults():
    assert load(EXAMPLE).model_dump() == load().model_dump()


def test_sections_that_are_off_state_their_defaults_when_they_are_on():
    lines = [re.sub(r"^# (?=exams:|control:|console:|  )", "", line) for line in EXAMPLE.open()]
    blocks = "".join(lines).split("\n\n")
    off = ("exams:", "control:", "console:")
    on = yaml.safe_load("\n".join(b for b in blocks if b.startswith(off)))
    assert load(exams=on["exams"]).exams == ExamSettings()
    assert load(control=on["control"]).control == ControlSettings()
    assert load(console=on["console"]).console == ConsoleSettings()
    assert load().exams is None and load().control is None
    assert load().console is None and load().outbox is None


def test_nothing_heavy_is_loaded_with_the_settings():
    code = "import sys, agent.config; print({'numpy', 'pydicom', 'starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_loopback_is_the_default():
    assert load().listen.host == "127.0.0.1"


def test_the_command_line_wins_over_the_environment_over_the_file(monkeypatch):
    path = write("listen: {host: file, port: 1}\nspool: {folder: file}\nchain: file")
    monkeypatch.setenv("BORESIDE_LISTEN__PORT", "2")
    monkeypatch.setenv("BORESIDE_SPOOL__FOLDER", "environment")
    settings = load(path, listen={"port": 3})
    assert settings.listen.host == "file"
    assert settings.listen.port == 3
    assert settings.spool.folder == Path("environment")
    assert settings.chain == "file"


def test_the_file_is_found_by_environment_or_in_the_folder(monkeypatch):
    Path("agent.yaml").write_text("threads: 7")
    assert load().threads == 7
    monkeypatch.setenv("BORESIDE_CONFIG", str(write("threads: 5")))
    assert load().threads == 5


def test_sizes_may_have_units():
    assert load(write("spool: {max_bytes: 3GB}")).spool.max_bytes == 3_000_000_000


@pytest.mark.parametrize(
    "text, words",
    [
        ("listen: {port: high}", ["settings.yaml", "listen.port", "integer", "'high'"]),
        ("listen: {port: 70000}", ["settings.yaml", "listen.port", "65535", "70000"]),
        ("listen: {prt: 1}", ["settings.yaml", "listen.prt", "unknown key", "host, port, socket"]),
        ("lisen: {port: 1}", ["settings.yaml", "lisen", "unknown key", "listen"]),
        ("exams: {protocl: x}", ["settings.yaml", "exams.protocl", "unknown key", "protocol"]),
        ("control: {host: 0.0.0.0, keys: null}", ["settings.yaml", "control", "expected keys"]),
        ("outbox: {destinations: [{name: a}]}", ["outbox.destinations.0.host", "required"]),
        ("dicom: {objects: new}", ["dicom.objects", "'enhanced'"]),
        ("console: {host: 0.0.0.0}", ["console", "TLS"]),
        ("pixel_type: int8", ["settings.yaml", "pixel_type", "'uint16'", "int8"]),
        ("listen: [", ["settings.yaml", "YAML"]),
        ("- a\n- b", ["settings.yaml"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(text, words):
    with pytest.raises(SettingsError) as error:
        load(write(text))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_wrong_setting_of_the_environment_or_command_line_is_named_as_such(monkeypatch):
    with pytest.raises(SettingsError, match=r"command line: listen\.port"):
        load(listen={"port": -1})
    monkeypatch.setenv("BORESIDE_THREADS", "none")
    with pytest.raises(SettingsError, match="BORESIDE_THREADS: threads"):
        load()


def test_a_file_that_is_not_there_is_an_error():
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load(Path("nowhere.yaml"))


def test_settings_do_not_change():
    with pytest.raises(ValueError):
        load().threads = 3
    assert isinstance(load(), Settings)
