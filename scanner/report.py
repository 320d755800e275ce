"""What the demo says about the images that came back: numbers, table, page, summary."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from protocols.meta import parse_meta
from scanner import brain
from scanner.client import Received
from scanner.console import middle_and_worst, table
from scanner.montage import Row, upright
from scanner.score import nrmse, ssim
from scanner.step import Step

TILES = 5
NAN = float("nan")


@dataclass(frozen=True)
class ImageResult:
    """What is known of one image; NaN where there is nothing to know.

    Attributes
    ----------
    series : str
    slice : int
    readouts : int
        Lines which it was made of.
    acceleration : float
        Nominal factor R.
    net_acceleration : float
        Lines of the encoded matrix over lines acquired: calibration lines count.
    latency_ms : float
        From its last line sent to its whole image received, as the scanner sees it.
    agent_latency_ms : float
        From its last line received to the image's departure, as the agent says.
    nrmse, ssim : float
        Against the truth.
    conventional_nrmse, conventional_ssim : float
        The same of the conventional reconstruction of the same readouts.
    engine : str
        Networks that took part in the image; empty where none did.
    """

    series: str
    slice: int
    readouts: int
    acceleration: float
    net_acceleration: float
    latency_ms: float
    agent_latency_ms: float
    nrmse: float = NAN
    ssim: float = NAN
    conventional_nrmse: float = NAN
    conventional_ssim: float = NAN
    engine: str = ""


def judge_step(
    step: Step, truth: np.ndarray, received: Received, plain: Received
) -> list[ImageResult]:
    """Compare the images of a step of 2D slices with their truth, float32 (slice, y, x).

    ``plain`` are those of the conventional reconstruction.
    """
    conventional = {int(image.header["slice"]): image.data[0, 0] for image in plain.images}
    results = []
    for number, image in enumerate(received.images):
        place = int(image.header["slice"])
        result = _result(
            step.name,
            received,
            number,
            step.protocol.geometry.encoded_matrix[1],
            step.protocol.sampling.acceleration[0],
            truth[place],
        )
        if place in conventional:
            result = replace(
                result,
                conventional_nrmse=nrmse(conventional[place], truth[place]),
                conventional_ssim=ssim(conventional[place], truth[place]),
            )
        results.append(result)
    return results


def judge_brain(received: Received) -> list[ImageResult]:
    """Return what is known of the real brain's images, which have no truth."""
    return [
        _result(brain.NAME, received, number, image.data[0].size, NAN)
        for number, image in enumerate(received.images)
    ]


def _result(
    series: str,
    received: Received,
    number: int,
    lines: int,
    acceleration: float,
    truth: np.ndarray | None = None,
) -> ImageResult:
    image = received.images[number]
    acquired = len(received.lines_of(number))
    meta = parse_meta(image.attributes)
    latency, engine = meta.get("BoresideLatencyMs", "nan"), meta.get("BoresideAI", "")
    return ImageResult(
        series,
        int(image.header["slice"]),
        acquired,
        acceleration,
        lines / max(acquired, 1),
        received.latency_ms(number),
        float(latency) if isinstance(latency, str) else NAN,
        NAN if truth is None else nrmse(image.data[0, 0], truth),
        NAN if truth is None else ssim(image.data[0, 0], truth),
        engine=engine if isinstance(engine, str) else ", ".join(engine),
    )


def step_row(
    step: Step,
    truth: np.ndarray,
    received: Received,
    plain: Received,
    results: Sequence[ImageResult],
) -> Row:
    """Show slices from side to side; of the middle one, the conventional image and the truth."""
    by_slice = {int(image.header["slice"]): image for image in received.images}
    shown = sorted(by_slice)
    if len(shown) > TILES:
        places = np.linspace(0.07, 0.93, TILES) * (len(shown) - 1)
        shown = [shown[int(place + 0.5)] for place in places]
    tiles = []
    for number in shown:
        header = by_slice[number].header
        left = float(header["position"][0])
        caption = f"{abs(left):.0f} mm {'L' if left > 0 else 'R'}" if abs(left) > 2 else "middle"
        tiles.append((caption, _upright(by_slice[number].data[0, 0], header)))
    if shown:
        middle = shown[len(shown) // 2]
        tiles += [
            ("middle, conventional", _upright(image.data[0, 0], image.header))
            for image in plain.images
            if int(image.header["slice"]) == middle
        ]
        expected = _upright(truth[middle], by_slice[middle].header)
        tiles.append(("middle, truth", expected))
    lines = [*_small_print(results), f"{len(step.scanner.coils)} coils", "SIMULATED"]
    return Row(step.name, lines, tiles)


def brain_row(received: Received, results: Sequence[ImageResult]) -> Row:
    """Show the plane of phase and partition at the one position along the readout."""
    tiles = [
        (
            "orientation not recorded",
            upright(image.data[0, :, :, 0].T, image.header["slice_dir"], image.header["phase_dir"]),
        )
        for image in received.images
    ]
    source = "real k-space: sigpy-mri-tutorial", "(c) 2019 mikgroup, BSD-3-Clause"
    return Row(brain.NAME, [*_small_print(results), "8 coils", *source], tiles)


def _upright(image: np.ndarray, header: np.void) -> np.ndarray:
    return upright(image, header["read_dir"], header["phase_dir"])


def _factor(result: ImageResult) -> str:
    net = f"{result.net_acceleration:.1f}"
    return f"R {net}" if np.isnan(result.acceleration) else f"R {result.acceleration} (net {net})"


def _small_print(results: Sequence[ImageResult]) -> list[str]:
    if not results:
        return ["no image came back"]
    error, _ = middle_and_worst([r.nrmse for r in results], 3)
    latency, longest = middle_and_worst([r.latency_ms for r in results])
    return [
        _factor(results[0]),
        next((r.engine for r in results if r.engine), "no network"),
        *(_against_plain(results) if error != "-" else ["no truth to compare with"]),
        f"latency {latency} ms, longest {longest}",
    ]


def _against_plain(results: Sequence[ImageResult]) -> list[str]:
    lines = []
    for name, values, plain in (
        ("NRMSE", [r.nrmse for r in results], [r.conventional_nrmse for r in results]),
        ("SSIM", [r.ssim for r in results], [r.conventional_ssim for r in results]),
    ):
        ours, theirs = (middle_and_worst(v, 4)[0] for v in (values, plain))
        lines.append(f"{name} {ours}, conventional {theirs}")
    return lines


def series_table(results: Sequence[ImageResult]) -> Table:
    """Return the table of one series."""
    name = results[0].series
    kind = "real" if name == brain.NAME else "simulated"
    head = f"{name}, {kind}, {len(results)} images, {_factor(results[0])}"
    rows = [
        ("latency as the scanner sees it, ms", *middle_and_worst([r.latency_ms for r in results])),
        ("latency by the agent, ms", *middle_and_worst([r.agent_latency_ms for r in results])),
        ("NRMSE", *middle_and_worst([r.nrmse for r in results], 4)),
        ("  conventional", *middle_and_worst([r.conventional_nrmse for r in results], 4)),
        ("SSIM", *middle_and_worst([r.ssim for r in results], 4, min)),
        ("  conventional", *middle_and_worst([r.conventional_ssim for r in results], 4, min)),
    ]
    return table(None, (head, "median", "worst"), rows)


def write_summary(path: Path, facts: dict[str, Any], results: Sequence[ImageResult]) -> None:
    """Write ``facts`` of the run and every image as JSON; null where a number is not known."""

    def plain(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return round(value, 5) if np.isfinite(value) else None

    medians = {
        name: {
            key: plain(float(np.median([getattr(r, key) for r in results if r.series == name])))
            for key in ("nrmse", "conventional_nrmse", "ssim", "conventional_ssim", "latency_ms")
        }
        for name in dict.fromkeys(r.series for r in results)
    }
    images = [{key: plain(value) for key, value in asdict(r).items()} for r in results]
    path.write_text(json.dumps({**facts, "medians": medians, "images": images}, indent=2) + "\n")
