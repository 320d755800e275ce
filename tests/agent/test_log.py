"""The log: what a terminal shows, and what it must not show."""

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
from agent import log

def chain(attributes):
    raise ValueError("expected an image")

log.setup()
try:
    chain({"patientName": "Doe^Jane"})
except ValueError as error:
    log.get(part="test").error("chain failed", exc_info=error)
"""


def run(stderr: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=stderr, env=environment, check=True)


def test_a_traceback_on_a_terminal_shows_no_values():
    ours, theirs = pty.openpty()
    run(theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # how Linux ends a terminal nobody has open any more
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    assert b"chain failed" in text and b"expected an image" in text and b"Traceback" in text
    assert b"Doe^Jane" not in text


def test_a_traceback_in_a_file_shows_no_values(tmp_path):
    with open(tmp_path / "log", "w") as file:
        run(file.fileno())
    text = (tmp_path / "log").read_text()
    assert '"chain failed"' in text and "expected an image" in text and "Doe^Jane" not in text
