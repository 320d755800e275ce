"""Requests after the scan: durable, done once, refused with a reason. All data are simulated."""

import subprocess
import sys
import time
from pathlib import Path

import ismrmrd.xsd as xsd
import numpy as np
import pytest

from agent.config import load
from agent.event_records import Picture
from agent.events import EventReader
from agent.requests import Contrast, Enhancement, FieldOfView, OtherChain, Request
from agent.requests_store import ATTEMPTS, RequestError, RequestStore
from agent.requests_worker import keeper, work
from agent.spool import Spool
from gadgets.synthesis.synthetic_mr import synthesise
from protocols.header import header_text, parse_header
from protocols.meta import parse_meta
from protocols.mrd_hdf5 import read_measurement
from protocols.mrd_types import Close, ConfigFile, HeaderText
from protocols.mrd_write import encode

CONFIG = ConfigFile("conventional")
SLOWEST_S = 900


def record(spool: Spool, *messages, outcome: str = "delivered", config="conventional") -> str:
    """Leave a measurement in the spool, as a session does that has ended."""
    recording = spool.record()
    for message in messages:
        for buffer in encode(message):
            recording.write(memoryview(buffer).cast("B"))
    recording.close()
    if outcome:
        spool.mark(recording.name, outcome=outcome, config=config)
    return recording.name


@pytest.fixture
def settings(tmp_path):
    return load(
        spool={"folder": tmp_path / "spool"},
        requests={"folder": tmp_path / "requests"},
        console={"events": tmp_path / "events"},
        audit={"folder": tmp_path / "audit"},
        threads=1,
    )


@pytest.fixture
def spool(settings):
    return Spool(settings.spool)


@pytest.fixture
def store(settings):
    store = RequestStore(settings.requests.folder)
    yield store
    store.close()


@pytest.fixture
def measured(spool, scan) -> str:
    """A measurement of one slice, its readout oversampled twice."""
    return record(spool, CONFIG, scan.header, scan.noise, scan.readouts, Close())


@pytest.fixture(scope="module")
def delays():
    """Messages of a multi-delay multi-echo measurement of balls."""
    from scanner.quantitative import multi_delay_multi_echo_step
    from scanner.tissues import Label
    from tests.scanner.conftest import Ellipsoids

    balls = Ellipsoids([((0, 0, 0), (150, 100, 190), int(Label.MUSCLE), 1.0, 0.0)])
    step = multi_delay_multi_echo_step(balls, matrix=64, slices=2)
    return [CONFIG, HeaderText(step.header_xml), *step.readouts(), Close()]


def result(store: RequestStore, request: Request) -> list:
    return list(read_measurement(store.result(request.id)))


def test_a_contrast_is_made_of_maps_that_are_kept(settings, spool, store, delays):
    name = record(spool, *delays)
    first = Request.of(name, Contrast(tr_ms=4000, te_ms=100), "anna")
    store.put(first)
    assert work(settings, idle_s=0)
    assert store.get(first.id).state == "done", store.get(first.id).reason
    kept = settings.requests.folder / "maps" / f"{name}.npz"
    with np.load(kept) as maps:
        assert np.median(maps["t1_ms"][maps["valid"]]) > 500
    spool.path(name).with_suffix(".mrd").write_bytes(
        b"".join(bytes(b) for m in delays[:2] for b in encode(m))
    )
    second = Request.of(name, Contrast(tr_ms=4500, te_ms=50, ti_ms=220), "anna")
    store.put(second)
    work(settings, idle_s=0)
    found = store.get(second.id)
    assert (found.state, found.images) == ("done", 2), "of the maps: the raw data are gone"
    for image in result(store, second):
        meta = parse_meta(image.attributes)
        assert meta["BoresideRole"] == "synthetic"
        assert meta["BurnedInAnnotation"] == "YES"
        assert float(meta["InversionTime"]) == 220
        assert meta["ImageProcessingHistory"][-1] == "on request: synthetic TR 4500 TE 50 TI 220"
    shown = [row.event for row in EventReader(settings.console.events).latest("picture", 10)]
    assert [p.role for p in shown if isinstance(p, Picture)] == ["synthetic"] * 4
    assert shown[-1].series.startswith(found.series)


def test_a_contrast_is_that_of_the_signal_equations(settings, spool, store, delays):
    name = record(spool, *delays)
    request = Request.of(name, Contrast(tr_ms=700, te_ms=30))
    store.put(request)
    work(settings, idle_s=0)
    from agent.requests_images import Recorded
    from agent.requests_maps import Maps

    maps = Maps(settings.requests.folder / "maps")
    measured = maps.of(Recorded.of(spool, name, settings.limits))
    expected = synthesise(measured.maps, 700, 30)
    for plane, image in zip(expected, result(store, request), strict=True):
        meta = parse_meta(image.attributes)
        found = image.data[0, 0] * float(meta["RescaleSlope"])
        assert found.shape == plane.shape
        clear = np.s_[20:]  # below the burned-in word
        np.testing.assert_allclose(found[clear], plane[clear], atol=float(meta["RescaleSlope"]))


def test_a_larger_field_of_view_shows_what_was_cut_off(settings, spool, store, measured):
    request = Request.of(measured, FieldOfView())
    usual = Request.of(measured, OtherChain(chain="conventional"))
    store.put(request)
    store.put(usual)
    work(settings, idle_s=0)
    (wide,), (narrow,) = result(store, request), result(store, usual)
    assert narrow.data.shape == (1, 1, 64, 64)
    assert wide.data.shape == (1, 1, 64, 128)
    fields = [image.header["field_of_view"] for image in (wide, narrow)]
    assert fields[0][0] == 2 * fields[1][0]
    slopes = [float(parse_meta(i.attributes)["RescaleSlope"]) for i in (wide, narrow)]
    middle = wide.data[0, 0, :, 32:96] * slopes[0]
    inside = narrow.data[0, 0] * slopes[1]
    assert np.corrcoef(middle.ravel(), inside.ravel())[0, 1] > 0.99
    assert parse_meta(wide.attributes)["BoresideRole"] == "acquired"


def test_a_request_is_done_once(settings, store, measured):
    request = Request.of(measured, OtherChain(chain="conventional"), "anna")
    store.put(request)
    assert store.put(request.model_copy(update={"user": "ben"})).state == "waiting"
    assert store.waiting() == 1
    work(settings, idle_s=0)
    written = store.result(request.id).stat().st_mtime_ns
    assert store.put(request).state == "done"
    work(settings, idle_s=0)
    assert store.result(request.id).stat().st_mtime_ns == written
    with pytest.raises(RequestError, match="another request"):
        store.put(Request.of(measured, FieldOfView(), id=request.id))


def test_what_a_killed_worker_was_doing_is_done_again(settings, store, measured):
    request = Request.of(measured, OtherChain(chain="conventional"))
    store.put(request)
    assert store.take() == request, "by a worker that is killed now"
    work(settings, idle_s=0)
    assert store.get(request.id).state == "done"


def test_what_ends_its_worker_again_and_again_fails(store, measured):
    request = Request.of(measured, OtherChain(chain="conventional"))
    store.put(request)
    for _ in range(ATTEMPTS):
        assert store.take() == request
    assert store.take() is None
    assert store.get(request.id).state == "failed"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Contrast(tr_ms=500, te_ms=10), "relaxation maps"),
        (OtherChain(chain="null"), "expected one of the chains"),
        (Enhancement(), "engines.research is off"),
    ],
)
def test_what_a_measurement_cannot_give_is_refused(settings, store, measured, wanted, why):
    request = Request.of(measured, wanted)
    store.put(request)
    work(settings, idle_s=0)
    found = store.get(request.id)
    assert found.state == "refused"
    assert why in found.reason
    assert not store.result(request.id).exists()


def test_a_measurement_that_is_gone_or_running_is_refused_and_may_be_asked_again(
    settings, spool, store, scan
):
    name = record(spool, CONFIG, scan.header, scan.noise, scan.readouts, Close(), outcome="")
    running, gone = (Request.of(n, FieldOfView()) for n in (name, "20261124T184312.520114Z-5f0c"))
    store.put(running)
    store.put(gone)
    work(settings, idle_s=0)
    assert "still being scanned" in store.get(running.id).reason
    assert "not in the spool" in store.get(gone.id).reason
    spool.mark(name, outcome="delivered", config="conventional")
    assert store.put(running).state == "waiting"
    work(settings, idle_s=0)
    assert store.get(running.id).state == "done"


def test_times_that_no_sequence_has_are_no_request():
    with pytest.raises(ValueError, match="TI \\+ TE below TR"):
        Contrast(tr_ms=100, te_ms=60, ti_ms=50)


def test_a_name_cannot_lead_out_of_the_spool():
    with pytest.raises(ValueError, match="pattern"):
        Request.of("../../etc/passwd", FieldOfView())


def test_results_go_to_the_outbox_once_in_the_study_of_their_measurement(
    settings, spool, store, scan, tmp_path
):
    pytest.importorskip("pydicom", reason="needs pydicom, of the extra dicom")
    import pydicom

    from agent.outbox_settings import OutboxSettings
    from agent.outbox_store import State, Store

    header = parse_header(scan.header.xml)
    header.measurementInformation = xsd.measurementInformationType(
        patientPosition=xsd.patientPositionType.HFS, protocolName="t1"
    )
    xml = HeaderText(header_text(header))
    measured = record(spool, CONFIG, xml, scan.noise, scan.readouts, Close())
    away = {"name": "pacs", "host": "127.0.0.1", "port": 1, "ae_title": "PACS"}
    outbox = OutboxSettings(folder=tmp_path / "outbox", destinations=(away,))
    settings = settings.model_copy(update={"outbox": outbox})
    for wanted in (FieldOfView(), OtherChain(chain="conventional")):
        request = Request.of(measured, wanted)
        store.put(request)
        work(settings, idle_s=0)
        store.end(request.id, "waiting")
        work(settings, idle_s=0)
        assert store.get(request.id).reason == ""
    waiting = Store(outbox)
    found = [pydicom.dcmread(e.path) for e in waiting.due("pacs", State.WAITING, 10)]
    waiting.close()
    assert sorted(each.SeriesDescription.partition(", ")[2] for each in found) == [
        "larger field of view", "reconstructed as conventional"
    ]  # fmt: skip
    assert len({each.StudyInstanceUID for each in found}) == 1
    assert len({each.SeriesInstanceUID for each in found}) == 2


def test_only_one_worker_works(settings, store, measured):
    from agent.requests_worker import _alone

    with _alone(settings.requests.folder) as alone:
        assert alone
        assert work(settings, idle_s=0) is False


def test_the_agent_has_a_worker_as_soon_as_something_waits(settings, store, measured):
    request = Request.of(measured, OtherChain(chain="conventional"))
    with keeper(settings):
        store.put(request)
        deadline = time.monotonic() + SLOWEST_S
        while store.get(request.id).open and time.monotonic() < deadline:
            time.sleep(0.05)
    assert store.get(request.id).state == "done"


def test_the_command_waits_and_says_where_the_images_are(settings, tmp_path, spool, measured):
    config = tmp_path / "agent.yaml"
    config.write_text(
        f"spool: {{folder: {spool.folder}}}\nrequests: {{folder: {tmp_path / 'requests'}}}\n"
        f"audit: {{folder: {tmp_path / 'audit'}}}\nthreads: 1\n"
    )

    def boreside(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "boreside", "request", *arguments]
        return subprocess.run(
            [*command, "--config", str(config)], capture_output=True, text=True, timeout=SLOWEST_S
        )

    done = boreside("fov", measured)
    assert done.returncode == 0, done.stderr
    assert len(list(read_measurement(Path(done.stdout.strip())))) == 1
    refused = boreside("enhancement", measured)
    assert refused.returncode == 1
    assert "engines.research is off" in " ".join(refused.stderr.split())
