"""Fill an events folder with a simulated exam, to look at the console page without a scanner.

    python tests/agent/console/fill.py FOLDER            # as it stands with the question open
    python tests/agent/console/fill.py FOLDER --live     # as if scanned now; clicks are answered

The patient is the digital phantom: all images are simulated, findings and labels are its truth.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from agent.event_records import (
    Answered,
    Asked,
    Begun,
    Connection,
    Ended,
    EngineState,
    ExamBegun,
    FindingsSaid,
    Problem,
    Progress,
    Spooled,
    StepPlanned,
)
from agent.events import Commands, Events
from gadgets.items import LabelMap
from gadgets.prescribe import prescribe
from gadgets.prescription import Prescription
from protocols.control import CoverageRequest, CoverageStep, Outcome
from protocols.exam_library import library
from protocols.findings import ExamFindings, Finding, Quality
from protocols.geometry import Slab, Volume
from protocols.meta import meta_text
from protocols.mrd_types import IMAGE_HEADER, ImageMessage
from scanner.disease import disease, lesion_truth
from scanner.exam import _lumbar_sequences
from scanner.phantom import LumbarSpine, SpineParameters
from scanner.phantom.labels_truth import structure_labels
from scanner.signal import signals
from scanner.structures import STRUCTURES
from scanner.tissues import tissue_table

PROTOCOL = library()["lumbar-sacroiliitis"].protocol
SEQUENCES = {"t1": "t1_tse_sag", "t2": "t2_tse_sag", "stir": "stir_sag"}
PLANNED = ("t1_tse_sag", "t2_tse_sag", "stir_sag", "si_stir_cor", "si_t1_cor")
ON_DEMAND = ("si_stir_ax", "si_gre_cor")
NETWORK = "recon 0.1"


@dataclass
class Simulated:
    """The exam of one phantom patient, in image space: no k-space, no reconstruction.

    Attributes
    ----------
    exam : str
        Pseudonym.
    matrix, slices : int
        Of the sagittal series; small ones are fast.
    """

    exam: str = "exam-7f3a9c52d04e4b1f8a6b2c9d0e1f2a3b"
    matrix: int = 256
    slices: int = 15

    @cached_property
    def spine(self) -> LumbarSpine:
        patient = LumbarSpine(SpineParameters(seed=7, age=34))
        return patient.with_lesions(disease(np.random.default_rng(4), patient, "si_oedema"))

    @cached_property
    def sagittal(self) -> Volume:
        pixel = 300 / self.matrix
        return Volume(
            position=np.array([0.0, 10.0, -25.0]),
            directions=np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]]),
            shape=(self.slices, self.matrix, self.matrix),
            spacing=np.array([pixel, pixel, 66 / self.slices]),
        )

    @cached_property
    def labels(self) -> LabelMap:
        marks = self.spine.landmarks()
        return LabelMap(
            labels=structure_labels(self.spine, points(self.sagittal)),
            names=STRUCTURES,
            volume=self.sagittal,
            landmarks=marks,
            confidence={**dict.fromkeys(marks, 1.0), "levels": 1.0},
        )

    def slab(self, step: str) -> Slab:
        """Return where a step of the SI joints lies, as prescribed from the labels."""
        found = prescribe(PROTOCOL.step(step).geometry, self.labels)
        assert isinstance(found, Prescription), found
        return found.slab

    def images(self, step: str, role: str = "acquired", fallback: str = "") -> list[ImageMessage]:
        """Return a step's images, as they would leave the agent."""
        planned = PROTOCOL.step(step)
        if planned.geometry.rule == "sagittal":
            volume = self.sagittal
        else:
            volume = self.slab(step).volume
            _, rows, columns = volume.shape
            size = self.matrix * 240 // 300
            shape = (min(volume.shape[0], self.slices + 5), size, size)
            volume = replace(
                volume, shape=shape, spacing=volume.spacing * [columns / size, rows / size, 1]
            )
        values = self.signal(planned.contrast, volume)
        if role == "synthetic":
            values = 40 - values.clip(0, 40)
        return list(messages(values, volume, role, fallback))

    def signal(self, contrast: str, volume: Volume) -> np.ndarray:
        """Return noisy magnitudes in SNR units, float32 (z, y, x)."""
        sequence = _lumbar_sequences()[SEQUENCES.get(contrast, SEQUENCES["t1"])]
        levels = signals(sequence, tissue_table(3.0))
        echo = max(0, round(sequence.te_ms / sequence.echo_spacing_ms) - 1)
        water, fat = levels.water[:, echo], levels.fat[:, echo]
        at = points(volume)
        sampled = self.spine.sample(at)
        part = sampled.fat_fraction
        image = sampled.density * (water[sampled.labels] * (1 - part) + fat[sampled.labels] * part)
        image = np.abs(image) * np.exp(-np.maximum(0, 70 - at[..., 1]) / 140)
        image *= 60 / max(float(np.percentile(image, 99.5)), 1e-6)
        rng = np.random.default_rng(len(contrast))
        noise = rng.standard_normal((2, *image.shape))
        return np.hypot(image + noise[0], noise[1]).astype(np.float32)

    def findings(self, series: tuple[str, ...]) -> ExamFindings:
        """Return what triage would say after some series: the phantom's truth."""
        truth = [t for t in lesion_truth(self.spine) if t.volume_ml > 0.4]
        seen = tuple(name for name in ("si_stir_cor", "stir_sag") if name in series)
        found = [
            Finding(
                id=f"f{number}", type=t.type, structure=t.structure, side=t.side, level=t.level,
                centre_mm=t.centre_mm, extent_mm=t.extent_mm, volume_ml=t.volume_ml,
                depth_mm=t.depth_mm, cnr=8.0, probability=0.91 - 0.13 * number, series=seen,
                slices=(8, 9, 10), adjacent_slices=3, area_mm2=60.0,
            )
            for number, t in enumerate(sorted(truth, key=lambda t: -t.volume_ml)[:3])
            if seen
        ]  # fmt: skip
        quality = tuple(Quality(series=name, snr=38.0, motion=0.05) for name in series)
        return ExamFindings(exam=self.exam, series=series, findings=found, quality=quality)

    def question(self, countdown_s: float, number: int = 1) -> Asked:
        """Return the question which the protocol's trigger would ask."""
        steps = [
            CoverageStep(step=name, slab=self.slab(name), minutes=PROTOCOL.step(name).minutes)
            for name in ON_DEMAND
        ]
        request = CoverageRequest(
            id=f"{self.exam}/complete-si-joints/{number}",
            exam=self.exam,
            protocol=PROTOCOL.name,
            revision=PROTOCOL.revision,
            trigger="complete-si-joints",
            text="Proposal: bright marrow signal beside the SI joint, left. Complete the SI joints "
            "(STIR semiaxial, T1 GRE 3D semicoronal), 3.3 min?",
            findings=("f0",),
            steps=steps,
            extra_minutes=sum(step.minutes for step in steps),
            countdown_s=countdown_s,
        )
        return Asked(request=request, asked_s=time.time())

    def plan(self) -> ExamBegun:
        """Return the exam's steps."""
        steps, on_demand = (
            tuple(
                StepPlanned(name=step.name, title=step.title, minutes=step.minutes)
                for step in map(PROTOCOL.step, names)
            )
            for names in (PLANNED, ON_DEMAND)
        )
        return ExamBegun(
            protocol=PROTOCOL.name,
            title=PROTOCOL.title,
            steps=steps,
            on_demand=on_demand,
            simulated=True,
        )

    def begin(self, events: Events) -> None:
        """Say that a scanner has connected, and that the exam has begun."""
        scanner = Connection(id="scanner-1", peer="bay 2 (10.0.0.7)", state="open")
        control = Connection(id="control-1", peer="bay 2 console", role="control", state="open")
        for event in (scanner, control, EngineState(state="network", engine=NETWORK)):
            events.say(None, event)
        events.say(None, Spooled(used_bytes=41 * 10**9, max_bytes=200 * 10**9, unfinished=1))
        events.say(self.exam, self.plan())

    def scan(
        self,
        events: Events,
        step: str,
        pause_s: float = 0.0,
        until: float = 1.0,
        fallback: str = "",
    ) -> None:
        """Say what a step says, up to a part of it."""
        name, total = f"m-{step}", 12_000
        title = PROTOCOL.step(step).title
        events.say(
            self.exam,
            Begun(measurement=name, step=step, title=title, readouts=total, chain="dl"),
        )
        for part in np.linspace(0.05, until, 20):
            events.say(
                self.exam,
                Progress(measurement=name, readouts=int(part * total), bytes=int(part * 9e8)),
            )
            time.sleep(pause_s / 20)
        if until < 1:
            return
        images = self.images(step, fallback=fallback)
        for number, image in enumerate(images):
            latency = 38.0 + 9 * abs(np.sin(number))
            events.picture(self.exam, step, image, name, title, latency)
        events.say(
            self.exam,
            Ended(
                measurement=name, outcome="delivered", images=len(images), bytes=900_000_000,
                seconds=60 * PROTOCOL.step(step).minutes,
            ),
        )  # fmt: skip

    def synthetic(self, events: Events) -> None:
        """Show a series that was never acquired."""
        for image in self.images("t1_tse_sag", role="synthetic"):
            events.picture(self.exam, "ct_like", image, "", "CT-like")

    def until_question(
        self, events: Events, countdown_s: float = 60.0, pause_s: float = 0
    ) -> Asked:
        """Say everything up to the question, which stays open."""
        self.begin(events)
        for step in PLANNED[:4]:
            self.scan(events, step, pause_s, fallback="" if step != "t2_tse_sag" else "late")
            if step == "t1_tse_sag":
                events.labels(self.exam, "labels", self.labels)
        events.say(self.exam, FindingsSaid(findings=self.findings(PLANNED[:4])))
        events.say(None, Problem(level="info", text="measurement ended: si_stir_cor, 20 images"))
        self.synthetic(events)
        self.scan(events, PLANNED[4], pause_s, until=0.4)
        asked = self.question(countdown_s)
        events.say(self.exam, asked)
        return asked


def points(volume: Volume) -> np.ndarray:
    """Return the patient coordinates of all voxels, float32 (z, y, x, 3)."""
    steps = [np.arange(n) - n // 2 for n in volume.shape]
    z, y, x = np.meshgrid(*steps, indexing="ij")
    mm = np.stack([x, y, z], axis=-1) * volume.spacing
    return np.asarray(volume.position + mm @ volume.directions, np.float32)


def messages(
    values: np.ndarray, volume: Volume, role: str, fallback: str
) -> Iterator[ImageMessage]:
    """Yield one message for each slice."""
    top = round(float(np.percentile(values, 99.7)))
    for number, image in enumerate(values):
        header = np.zeros(1, IMAGE_HEADER)[0]
        header["position"] = volume.point(number, volume.shape[1] // 2, volume.shape[2] // 2)
        header["read_dir"], header["phase_dir"], header["slice_dir"] = volume.directions
        header["field_of_view"] = volume.spacing * [volume.shape[2], volume.shape[1], 1]
        header["image_index"] = number + 1
        late = {"BoresideFallback": [f"fallback: no network reconstruction: {fallback}"]}
        meta = {
            "BoresideRole": role,
            "ImageProcessingHistory": ["BORESIDE", "SIMULATED"],
            "RescaleSlope": 1 / 64,
            "WindowCenter": top // 2,
            "WindowWidth": top,
            **(late if fallback else {"BoresideAI": [NETWORK]}),
        }
        yield ImageMessage(header, np.rint(image * 64).astype(np.uint16)[None, None],
                           meta_text(meta))  # fmt: skip


def answer(simulated: Simulated, events: Events, commands: Commands, asked: Asked) -> str:
    """Answer a question as the coverage loop does: by a click, or when the countdown is over."""
    while True:
        for command in commands.poll():
            if command.request != asked.request.id:
                continue
            outcome = Outcome.ACCEPTED if command.kind == "accept" else Outcome.DECLINED
            events.say(
                simulated.exam,
                Answered(request=command.request, outcome=outcome, by=command.user),
            )
            return str(outcome)
        if time.time() > asked.asked_s + asked.request.countdown_s:
            events.say(simulated.exam, Answered(request=asked.request.id, outcome="no_answer"))
            return "no_answer"
        time.sleep(0.05)


def main() -> None:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--slices", type=int, default=15)
    parser.add_argument("--countdown", type=float, default=600.0)
    given = parser.parse_args()
    simulated = Simulated(matrix=given.matrix, slices=given.slices)
    with Events(given.folder) as events:
        asked = simulated.until_question(events, given.countdown, 4.0 if given.live else 0.0)
        while given.live:
            if answer(simulated, events, Commands(given.folder), asked) == "accepted":
                for step in (PLANNED[4], *ON_DEMAND[:1]):
                    simulated.scan(events, step, 6.0)
            else:
                simulated.scan(events, PLANNED[4], 6.0)
            time.sleep(20)
            asked = simulated.question(given.countdown, int(time.time()))
            events.say(simulated.exam, asked)


if __name__ == "__main__":
    main()
