"""Measures of the spine, by their published definitions: from labels and series to numbers.

    found = measures(labels, series)

Each definition is told, with its source, where it is computed: `gadgets.measures_shape` (curvature,
discs, slips, heights), `gadgets.measures_canal`, `gadgets.measures_signal`. What cannot be measured
from trusted landmarks is absent, never guessed.
"""

from collections.abc import Sequence

from gadgets import measures_canal, measures_shape, measures_signal
from gadgets.items import LabelMap, Series
from gadgets.sagittal import sagittal_spine
from protocols.findings import Measure

NAMES = measures_shape.NAMES | measures_canal.NAMES | measures_signal.NAMES
"""Names of all measures, which exam protocols may refer to."""


def measures(labels: LabelMap, series: Sequence[Series] = ()) -> tuple[Measure, ...]:
    """Measure a labelled spine.

    Parameters
    ----------
    labels : LabelMap
    series : sequence of Series
        Acquired ones, and maps of fat fraction (weighting "pdff"). Where more than one would do,
        the first is read.

    Returns
    -------
    tuple of Measure
        Levels are those of a body ("L4") or of a disc ("L4/L5"). Empty where the numbering of the
        levels is not trusted.
    """
    spine = sagittal_spine(labels)
    if spine is None:
        return ()
    canal = measures_canal.structure(labels, "canal")
    return (
        *measures_shape.shape_measures(spine),
        *measures_canal.canal_measures(spine, labels, series),
        *measures_signal.signal_measures(spine, canal, series),
    )
