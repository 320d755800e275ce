"""The virtual scanner's exams: lists of steps, each with an MRD header, readouts and the truth.

    exam = lumbar_exam(LumbarSpine(SpineParameters()))
    for step in exam:
        send(step.header_xml)
        for block in step.readouts():      # noise scan first; headers carry the time stamps
            send(block)
        compare(step.truth())              # never leaves the scanner's side

Extra coverage is `scanner.coverage.coverage_step`.
All data are simulated.
"""

from scanner.rasterise import ScanObject
from scanner.sequence import (
    Geometry,
    GradientEcho,
    NoiseScan,
    Protocol,
    Sampling,
    TurboSpinEcho,
)
from scanner.step import Step, make_scanner

FRONT_TO_BACK, HEAD_TO_FEET = (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)
"""Readout and phase of sagittal slices, which then run from left to right."""


def _lumbar_sequences() -> dict[str, TurboSpinEcho]:
    # The inversion time nulls the phantom's fat (T1 370 ms); patients' fat is nulled at 200-220 ms.
    return {
        "t1_tse_sag": TurboSpinEcho(600.0, 10.0, 10.0, (150.0,) * 3, 250.0),
        "t2_tse_sag": TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0),
        "stir_sag": TurboSpinEcho(4500.0, 50.0, 10.0, (150.0,) * 14, 250.0, ti_ms=250.0),
    }


def lumbar_exam(
    thing: ScanObject,
    acceleration: int = 4,
    phase_oversampling: float = 0.4,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    noise_level: float = 1.0,
    exam: str = "exam",
) -> list[Step]:
    """Return a lumbar exam at 3 T: sagittal T1, T2 and STIR, 15 slices of 4 mm, 320 x 320.

    Parameters
    ----------
    thing : ScanObject
        `scanner.phantom.LumbarSpine` or alike.
    acceleration : int
        With 32 embedded calibration lines.
    phase_oversampling : float
        The body is longer than the field of view: without it, it folds over.
    centre : (3) mm
        Of the stack.
    noise_level : float
        Times the usual noise.
    exam : str
        Name of the exam: same name, same noise.
    """
    geometry = Geometry(
        centre,
        FRONT_TO_BACK,
        HEAD_TO_FEET,
        field_of_view_mm=(300.0, 300.0),
        matrix=(320, 320),
        slices=15,
        thickness_mm=4.0,
        gap_mm=0.4,
        phase_oversampling=phase_oversampling,
    )
    sampling = Sampling(acceleration=(acceleration, 1), calibration=(32, 0))
    return make_scanner(thing, noise_level=noise_level, exam=exam).exam_steps(
        [Protocol(name, seq, geometry, sampling) for name, seq in _lumbar_sequences().items()]
    )


def quick_exam(
    thing: ScanObject,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    noise_level: float = 1.0,
    exam: str = "quick",
) -> list[Step]:
    """Return a small exam for tests: T1, T2 and STIR, 3 slices, 128 x 128, 6 coils, R 2."""
    geometry = Geometry(
        centre,
        FRONT_TO_BACK,
        HEAD_TO_FEET,
        field_of_view_mm=(420.0, 420.0),
        matrix=(128, 128),
        slices=3,
        thickness_mm=4.0,
        gap_mm=8.0,
    )
    sampling = Sampling(acceleration=(2, 1), calibration=(24, 0))
    noise_scan = NoiseScan(readouts=64)
    return make_scanner(thing, rows=6, columns=1, noise_level=noise_level, exam=exam).exam_steps(
        [
            Protocol(name, seq, geometry, sampling, noise_scan)
            for name, seq in _lumbar_sequences().items()
        ]
    )


def dixon_step(
    thing: ScanObject,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    echoes: int = 6,
    noise_level: float = 1.0,
    exam: str = "dixon",
) -> Step:
    """Return a small 3D multi-echo spoiled gradient echo for water-fat imaging, CAIPI 2 x 2."""
    te_ms = tuple(round(1.3 + 1.05 * echo, 3) for echo in range(echoes))
    sequence = GradientEcho(9.0, te_ms, 4.0, 1200.0)
    geometry = Geometry(
        centre,
        FRONT_TO_BACK,
        HEAD_TO_FEET,
        field_of_view_mm=(420.0, 420.0),
        matrix=(128, 128),
        slices=16,
        thickness_mm=4.0,
        volumetric=True,
    )
    sampling = Sampling(acceleration=(2, 2), calibration=(24, 8), caipi_shift=1)
    scanner = make_scanner(thing, noise_level=noise_level, exam=exam)
    return scanner.exam_steps([Protocol("dixon_3d", sequence, geometry, sampling)])[0]
