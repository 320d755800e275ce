"""Console: what it costs the agent, how soon an image is on the page, how smoothly slices scroll.

The agent is a process of its own that tells the page of every image. Viewers are clients that take
every event and every image; they share this machine, which real ones do not. While they are busy
with a series, the latency of an image is measured. The page and its browser are real (headless
Chromium through playwright); its rows are left out where there is none. Latency without viewers is
the peer of latency with ten: the ratio is to stay above 0.95.
"""

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agent.event_records import ExamBegun
from agent.events import Events
from bench.data import measurement
from bench.latency import _latency
from bench.peers import free_port, server
from bench.rows import row
from protocols.geometry import Slab
from protocols.meta import Value, meta_text
from protocols.mrd_types import IMAGE_HEADER, ImageMessage

VIEWERS = 10
EXAM = "exam-bench"
SCROLLED_S = 3.0
VIEWER = """
import json, sys, threading, urllib.request
url, count = sys.argv[1], int(sys.argv[2])
connected = threading.Barrier(count + 1)
def view():
    with urllib.request.urlopen(url + "api/events") as answer:
        answer.readline()
        connected.wait()
        for line in answer:
            event = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if event.get("kind") == "picture":
                urllib.request.urlopen(f"{url}api/pictures?of={event['number']}").read()
for _ in range(count):
    threading.Thread(target=view, daemon=True).start()
connected.wait()
print("connected", flush=True)
threading.Event().wait()
"""
ON_PAGE = """(count) => new Promise((done) => {
    const look = () => {
        const stack = [...boreside.pictures.series.values()].at(-1);
        if (stack?.planes.filter((p) => p.picture.pixels).length >= count) done(performance.now());
        else requestAnimationFrame(look);
    };
    look();
})"""
SCROLL = """(ms) => new Promise((done) => {
    const pane = boreside.panes[0], last = pane.stack.planes.length - 1;
    const began = performance.now(), first = pane.frames;
    let step = 1;
    const turn = () => {
        if (performance.now() - began > ms) {
            return done(1000 * (pane.frames - first) / (performance.now() - began));
        }
        if (pane.index === last) step = -1; else if (pane.index === 0) step = 1;
        pane.move(step);
        requestAnimationFrame(turn);
    };
    turn();
})"""


def slab() -> Slab:
    """Return an oblique slab through the images of `pictures`."""
    return Slab((0, 0, 0), (1, 0, 0), (0, 0.6, -0.8), (240, 240), (256, 205), 24, 3.0)


def pictures(count: int, matrix: int, role: str = "acquired") -> Iterator[ImageMessage]:
    """Yield simulated sagittal images: noise with a bright ellipse."""
    rng = np.random.default_rng(count)
    y, x = np.indices((matrix, matrix)) / matrix - 0.5
    inside = (x / 0.35) ** 2 + (y / 0.45) ** 2 < 1
    for number in range(count):
        header = np.zeros(1, IMAGE_HEADER)[0]
        header["position"] = (4.0 * (number - count // 2), 0, 0)
        header["read_dir"], header["phase_dir"], header["slice_dir"] = (
            (0, 1, 0), (0, 0, -1), (-1, 0, 0),
        )  # fmt: skip
        header["field_of_view"] = (300, 300, 4)
        header["image_index"] = number + 1
        data = (1000 * inside + 100 * rng.random(inside.shape)).astype(np.uint16)
        meta: dict[str, Value] = {"BoresideRole": role, "WindowCenter": 550, "WindowWidth": 1100}
        yield ImageMessage(header, data[None, None], meta_text(meta))


@contextlib.contextmanager
def _console(folder: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "agent.console", "--port", str(port), "--guest", "viewer"]
    for option in ("folder", "own", "site", "reports"):
        command += [f"--{option}", str(folder / option)]
    with server(command, port):
        yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def _viewers(url: str, count: int) -> Iterator[None]:
    """Run clients that take what browsers take, and draw nothing: browsers are elsewhere."""
    if not count:
        yield
        return
    command = ["nice", "-n", "19", sys.executable, "-c", VIEWER, url, str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "connected\n"
        yield
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        yield None
        return
    with sync_playwright() as playwright:
        try:
            found = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error:
            yield None
            return
        yield browser
        browser.close()


@contextlib.contextmanager
def _agent(folder: Path) -> Iterator[int]:
    """Run an agent that writes for the page, in the folder of `_console`; gives its port."""
    settings = {
        "spool": {"folder": str(folder / "spool")},
        "audit": {"folder": str(folder / "audit")},
        "console": {"events": str(folder / "folder")},
    }
    file = folder / "agent.yaml"
    file.write_text(json.dumps(settings))
    port = free_port()
    command = [sys.executable, "-m", "boreside", "serve", "--config", str(file), "--no-recover"]
    with server([*command, "--port", str(port)], port):
        yield port


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of this benchmark."""
    rounds = 5 if quick else 15
    rows = []
    with _browser() as browser, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Events(folder / "folder", alive=False) as events, _console(folder) as url:
            with _agent(folder) as port:
                rows.append(_agent_latency(port, events, url, rounds))
            if browser is not None:
                rows += _page(browser, events, url, rounds)
    return rows


def _agent_latency(port: int, events: Events, url: str, rounds: int) -> dict[str, Any]:
    """Latency of an agent with ten viewers of the console, and with none."""
    scan = measurement((256, 256, 1), coils=16)
    events.say(EXAM, ExamBegun(protocol="bench", title="bench"))
    images = list(pictures(15, 320))
    times: dict[int, list[float]] = {0: [], VIEWERS: []}
    for number in range(rounds):
        for viewers in times:
            with _viewers(url, viewers):
                for image in images:
                    events.picture(EXAM, f"series-{number % 2}", image)
                times[viewers].append(_latency(port, "conventional", scan))
    middle = {viewers: statistics.median(values) for viewers, values in times.items()}
    return row(
        "console",
        f"2D 256x256, 16 coils, {VIEWERS} viewers that take every image",
        "agent_latency",
        middle[VIEWERS],
        "no viewers",
        middle[0],
        "lower",
        "ms",
    )


def _page(browser: Any, events: Events, url: str, rounds: int) -> Iterator[dict[str, Any]]:
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    page.goto(url)
    images = list(pictures(60, 320))
    delays = []
    for number in range(rounds):
        exam = f"{EXAM}-{number}"
        events.say(exam, ExamBegun(protocol="bench", title=exam))
        page.wait_for_function("(exam) => boreside.state.exam === exam", arg=exam)
        began = time.time()
        events.picture(exam, "t1", images[0])
        page.evaluate(ON_PAGE, 1)
        delays.append(1000 * (time.time() - began))
    yield row(
        "console", "320x320, image handed over to pixels in the page", "first_image_ms",
        statistics.median(delays), "", None, "lower", "ms",
    )  # fmt: skip
    for image in images[1:]:
        events.picture(exam, "t1", image)
    page.evaluate(ON_PAGE, len(images))
    page.evaluate("() => boreside.panes[0].show([...boreside.pictures.series.values()][0], 0)")
    page.wait_for_timeout(300)
    frames = page.evaluate(SCROLL, 1000 * SCROLLED_S)
    yield row(
        "console", "60 slices of 320x320 scrolled, 1920x1080, software rendering",
        "frames_per_s", frames, "", None, "higher", "1/s",
    )  # fmt: skip
