"""The console in a real browser: what its three users mainly do. Skipped where there is no browser.

All images are simulated.
"""

import contextlib
import functools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
pytest.importorskip("starlette", reason="needs starlette, of the extra console")
pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra console")

from agent.audit import salt_file  # noqa: E402
from agent.audit_records import Pseudonyms  # noqa: E402
from agent.config import load  # noqa: E402
from agent.event_records import (  # noqa: E402
    Answered,
    Asked,
    Begun,
    Connection,
    ExamBegun,
    StepPlanned,
)
from agent.events import Commands, Events  # noqa: E402
from agent.exams import exam_name  # noqa: E402
from agent.requests_worker import work  # noqa: E402
from agent.spool import Spool  # noqa: E402
from bench.console import pictures, slab  # noqa: E402
from bench.peers import free_port, server  # noqa: E402
from protocols.control import CoverageRequest, CoverageStep, Outcome  # noqa: E402
from protocols.header import parse_header  # noqa: E402
from protocols.mrd_types import Close, ConfigFile, HeaderText  # noqa: E402
from protocols.mrd_write import encode  # noqa: E402

EXAM = "exam-" + "a" * 32
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SLOWEST_MS = 300_000


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"needs a Chromium (apt-get install chromium): {error}")
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator[object]:
    context = browser.new_context(viewport={"width": 1920, "height": 1080}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(SLOWEST_MS)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    context.close()
    assert page.problems == []


def command(tmp_path, port: int, role: str) -> list[str]:
    options = {"--folder": "events", "--own": "own", "--site": "site", "--reports": "reports",
               "--requests": "requests"}  # fmt: skip
    folders = [part for key, name in options.items() for part in (key, str(tmp_path / name))]
    head = [sys.executable, "-m", "agent.console", "--port", str(port), "--guest", role]
    return [*head, *folders]


@pytest.fixture
def console(tmp_path) -> Iterator[Callable[[str], str]]:
    with contextlib.ExitStack() as running:

        def start(role: str) -> str:
            port = free_port()
            running.enter_context(server(command(tmp_path, port, role), port))
            return f"http://127.0.0.1:{port}/"

        yield start


def question() -> Asked:
    request = CoverageRequest(
        id=f"{EXAM}/t/1", exam=EXAM, protocol="lumbar", revision=1, trigger="t",
        text="Proposal: bright signal beside the SI joint, left. Scan the SI joints, 2 min?",
        steps=(CoverageStep(step="si_stir_cor", slab=slab(), minutes=2),),
        extra_minutes=2, countdown_s=600,
    )  # fmt: skip
    return Asked(request=request, asked_s=time.time())


def exam() -> ExamBegun:
    return ExamBegun(
        protocol="lumbar",
        title="Lumbar spine",
        steps=(StepPlanned(name="t1_tse_sag", title="T1 TSE sagittal", minutes=2),),
        on_demand=(StepPlanned(name="si_stir_cor", title="SI joints STIR", minutes=2),),
        simulated=True,
    )


@pytest.mark.parametrize(
    ("button", "kind", "outcome", "said"),
    [
        (".yes", "accept", Outcome.ACCEPTED, "Accepted by guest"),
        (".no", "decline", Outcome.DECLINED, "Declined by guest"),
    ],
)
def test_the_technologist_answers_the_question(
    tmp_path, console, page, button, kind, outcome, said
):
    with Events(tmp_path / "events") as events:
        page.goto(console("technologist"))
        events.say(EXAM, exam())
        events.say(EXAM, Begun(measurement="m", step="t1_tse_sag", readouts=100))
        for image in pictures(5, 64):
            events.picture(EXAM, "t1_tse_sag", image, "m", "T1 TSE sagittal")
        events.say(EXAM, question())
        page.locator("#question").get_by_text("Scan the SI joints, 2 min?").wait_for()
        page.locator("#question .planned canvas").wait_for()
        assert page.locator("#question button").count() == 2
        box = page.locator(f"#question {button}").bounding_box()
        assert min(box["width"], box["height"]) >= 60, "for gloves"
        page.locator(f"#question {button}").click()
        deadline = time.monotonic() + SLOWEST_MS / 1000
        commands = Commands(tmp_path / "events")
        while not (found := commands.poll()) and time.monotonic() < deadline:
            page.wait_for_timeout(20)
        assert [(c.kind, c.user) for c in found] == [(kind, "guest")]
        events.say(EXAM, Answered(request=found[0].request, outcome=outcome, by="guest"))
        page.get_by_text(said).wait_for()
        page.locator("#question").wait_for(state="hidden")
        assert page.locator("[data-step=si_stir_cor]").count() == (kind == "accept")


def test_slices_scroll_and_a_point_is_where_the_patient_has_it(tmp_path, console, page):
    images = list(pictures(7, 64))
    with Events(tmp_path / "events") as events:
        page.goto(console("viewer"))
        events.say(EXAM, exam())
        for image in images:
            events.picture(EXAM, "t1_tse_sag", image, "m", "T1 TSE sagittal")
        page.get_by_text("Slice 4 of 7").wait_for()
        page.keyboard.press("ArrowDown")
        page.get_by_text("Slice 5 of 7").wait_for()
        found = page.evaluate(
            """async () => {
                const { indexOf, pointOf } = await import("/static/geometry.js");
                const { picture, z } = boreside.panes[0].plane;
                const at = pointOf(picture, 40, 20, z);
                return { at, index: indexOf(picture, at), number: picture.index };
            }"""
        )
    from protocols.geometry import volume

    truth = volume(images[found["number"] - 1].header, (1, 64, 64)).point(0, 20, 40)
    assert abs(truth - found["at"]).max() < 0.01  # mm
    assert found["index"] == pytest.approx([40, 20, 0], abs=1e-6)


def test_a_synthetic_image_is_marked_and_never_shows_itself(tmp_path, console, page):
    with Events(tmp_path / "events") as events:
        page.goto(console("viewer"))
        events.say(EXAM, exam())
        for image in pictures(3, 64):
            events.picture(EXAM, "t1_tse_sag", image, "m", "T1 TSE sagittal")
        page.get_by_text("Slice 2 of 3").wait_for()
        for image in pictures(3, 64, role="synthetic"):
            events.picture(EXAM, "ct_like", image, "", "CT-like")
        page.locator("[data-series=ct_like] .mark", has_text="SYNTHETIC").wait_for()
        assert page.locator(".synthetic-mark").first.is_hidden()
        page.locator("[data-series=ct_like]").click()
        page.get_by_text("SYNTHETIC IMAGE").first.wait_for()


def test_a_dropped_connection_comes_back_with_what_was_missed(tmp_path, page):
    port = free_port()
    with Events(tmp_path / "events") as events:
        with server(command(tmp_path, port, "viewer"), port):
            page.goto(f"http://127.0.0.1:{port}/")
            events.say(EXAM, exam())
            page.get_by_text("T1 TSE sagittal").wait_for()
            lost = Connection(id="s", peer="bay 2", state="lost")
            events.say(None, lost)
            page.get_by_text("Connection to the scanner lost: bay 2").wait_for()
            events.say(None, lost.model_copy(update={"state": "open"}))
            page.get_by_text("Connection to the scanner lost").wait_for(state="hidden")
        page.locator("#lost").wait_for()
        events.say(EXAM, Begun(measurement="m", step="t1_tse_sag", readouts=100))
        with server(command(tmp_path, port, "viewer"), port):
            page.locator("#lost").wait_for(state="hidden")
            page.get_by_text("Connected again").wait_for()
            page.locator(".step.running").wait_for()


def test_the_engineer_edits_checks_and_publishes(tmp_path, console, page):
    page.goto(console("engineer") + "protocols")
    page.locator(".entry[data-name=si-joints]").click()
    page.locator(".says h3").first.wait_for()
    before = page.locator("#yaml").input_value()
    page.locator("#yaml").fill(before.replace("revision: 1", "revison: 2", 1))
    page.locator(".problem", has_text="unknown key").wait_for()
    wrong = before.splitlines().index("revision: 1") + 1
    assert str(wrong) in page.locator(".gutter .wrong").all_inner_texts()
    assert page.locator("#publish").is_disabled()
    page.locator("#yaml").fill(before.replace("revision: 1", "revision: 2", 1))
    page.get_by_text("No problems").wait_for()
    page.locator("[data-tab=changes]").click()
    page.locator(".diff .more", has_text="+revision: 2").wait_for()
    page.locator("#reason").fill("for the test")
    page.locator("#publish").click()
    page.get_by_text("si-joints revision 2 is in force.").wait_for()
    assert "revision: 2" in (tmp_path / "site" / "si-joints.yaml").read_text()
    page.locator("[data-tab=history]").click()
    page.get_by_text("for the test").wait_for()


def test_the_engineer_sweeps_a_threshold_of_a_backtest(tmp_path, console, page):
    rate = {"count": 9, "of": 10, "value": 0.9, "low": 0.6, "high": 0.98}
    points = [
        {"up": up, "sensitivity": rate, "specificity": rate, "asks_per_100": 100 * (1 - up),
         "minutes_per_exam": 1 - up}
        for up in (0.5, 0.6, 0.7)
    ]  # fmt: skip
    judged = {"protocol": "si-joints", "revision": 1, "exams": 40, "operating_up": [0.6]}
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "night.json").write_text(
        json.dumps({"protocols": [{**judged, "sweep": points}]})
    )
    page.goto(console("engineer") + "protocols")
    page.locator(".entry[data-name=si-joints]").click()
    page.locator("[data-tab=sweep]").click()
    page.locator(".sweep .tile", has_text="in force: 0.60").wait_for()
    page.locator(".sweep .tile b", has_text="40.0").wait_for()
    page.locator(".sweep .threshold").press("ArrowRight")
    page.locator(".sweep .tile b", has_text="0.70").wait_for()
    page.locator(".sweep .tile b", has_text="30.0").wait_for()
    page.locator("[data-tab=shadow]").click()
    page.get_by_text("Nothing noted yet").wait_for()


def test_the_console_runs_below_everything_else(tmp_path):
    port = free_port()
    with server(command(tmp_path, port, "viewer"), port) as process:
        nice = subprocess.run(
            ["ps", "-o", "ni=", "-p", str(process.pid)], capture_output=True, text=True, check=True
        )
        assert int(nice.stdout) >= 10


def test_the_technologist_asks_for_a_synthetic_contrast(tmp_path, console, page):
    """The worker is the agent's own, in this process."""
    settings = load(
        spool={"folder": tmp_path / "spool"},
        requests={"folder": tmp_path / "requests"},
        console={"events": tmp_path / "events"},
        audit={"folder": tmp_path / "audit"},
        threads=1,
    )
    name = record(Spool(settings.spool), multi_delay_multi_echo())
    with Events(tmp_path / "events") as events:
        page.goto(console("technologist"))
        header = parse_header(multi_delay_multi_echo()[1].xml)
        pseudonym = Pseudonyms.of_site(salt_file(settings.audit.folder)).exam(exam_name(header))
        events.say(pseudonym, exam())
        events.say(pseudonym, Begun(measurement=name, step="t1_tse_sag", title="T1, T2 maps"))
        for image in pictures(2, 64):
            events.picture(pseudonym, "t1_tse_sag", image, name, "T1, T2 maps")
        page.get_by_text("Slice 2 of 2").wait_for()
        page.locator("#ask-more").click()
        page.locator("#more .row button", has_text="T2w").click()
        box = page.locator("#more .send").bounding_box()
        assert min(box["width"], box["height"]) >= 60, "for gloves"
        page.locator("#more .send").click()
        page.locator("#more .request", has_text="TR 4000 · TE 100").wait_for()
        work(settings, idle_s=0)
        page.locator("#more .request.done").wait_for()
        page.get_by_text("SYNTHETIC IMAGE").first.wait_for()
        assert "TR 4000 TE 100" in page.locator(".pane .tl").first.inner_text()
        # What cannot be made says why.
        page.locator("#more [data-kind=enhancement]").click()
        page.locator("#more .send").click()
        page.locator("#more .request", has_text="Virtual enhancement").wait_for()
        work(settings, idle_s=0)
        page.locator("#more .said.bad", has_text="engines.research is off").wait_for()


def record(spool: Spool, messages: list) -> str:
    recording = spool.record()
    for message in messages:
        for buffer in encode(message):
            recording.write(memoryview(buffer).cast("B"))
    recording.close()
    spool.mark(recording.name, outcome="delivered", config="conventional")
    return recording.name


@functools.cache
def multi_delay_multi_echo() -> list:
    from scanner.quantitative import multi_delay_multi_echo_step
    from scanner.tissues import Label
    from tests.scanner.conftest import Ellipsoids

    balls = Ellipsoids([((0, 0, 0), (150, 100, 190), int(Label.MUSCLE), 1.0, 0.0)])
    step = multi_delay_multi_echo_step(balls, matrix=64, slices=2)
    return [ConfigFile("conventional"), HeaderText(step.header_xml), *step.readouts(), Close()]
