"""Sizes of every level of one patient: the tables of column.py's sources, scaled and varied.

The tables are indexed by *kind*, what a vertebra looks like; with four or six lumbar bodies its
name is another.

Sources: body heights and end-plate widths, Bonczar 2024 (meta-analysis); end-plate depth, Panjabi
1992; canal, Griffith (CT, n=1080); disc heights, Shin 2024; segmental lordosis and body wedging as
listed in the tables below (Scientific Reports 2022, s41598-022-21840-x). Thoracic and sacral rows
are general knowledge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scanner.phantom.variants import Variants, level_names

# Per level: posterior, anterior body height, width, depth, middle height of the disc below, canal
# AP, canal width.
_SIZES = {
    "T8": (19.8, 18.8, 30.0, 28.0, 3.6, 15.0, 17.5),
    "T9": (20.6, 19.6, 31.0, 29.0, 3.8, 15.0, 17.5),
    "T10": (21.8, 20.8, 32.5, 30.0, 4.2, 15.0, 17.5),
    "T11": (23.4, 22.0, 35.0, 31.5, 4.8, 15.2, 18.0),
    "T12": (25.2, 23.6, 38.5, 33.0, 5.6, 15.6, 20.0),
    "L1": (26.57, 24.54, 41.09, 34.1, 6.61, 15.46, 20.87),
    "L2": (27.02, 25.75, 42.98, 34.6, 7.90, 14.58, 21.19),
    "L3": (26.67, 26.83, 44.82, 35.2, 8.83, 14.04, 22.13),
    "L4": (25.76, 26.86, 47.50, 35.5, 9.31, 15.34, 24.55),
    "L5": (24.11, 27.44, 48.81, 35.7, 8.14, 19.67, 29.55),
}
# Depth of the superior and inferior end-plate concavity.
CONCAVITY = {
    "T8": (0.7, 0.8),
    "T9": (0.8, 0.8),
    "T10": (0.8, 0.9),
    "T11": (0.9, 1.0),
    "T12": (1.0, 1.2),
    "L1": (1.1, 1.4),
    "L2": (1.2, 1.6),
    "L3": (1.3, 1.7),
    "L4": (1.3, 1.5),
    "L5": (1.2, 0.9),
}
SACRAL_CONCAVITY = 0.4
S1_WIDTH = 50.0
# Share of the L1-S1 lordosis (superior end plate to superior end plate) at the average 50.9
# degrees.
_SHARES_DEG = {"L1": 0.9, "L2": 6.2, "L3": 8.9, "L4": 13.1, "L5": 21.8}
_THORACIC_DISC_DEG = {"T8": 0.0, "T9": 0.0, "T10": 0.3, "T11": 0.8, "T12": 2.0}
# Kinds of the lumbar bodies by their number.
_LUMBAR_KINDS = {
    4: ("L1", "L2", "L4", "L5"),
    5: ("L1", "L2", "L3", "L4", "L5"),
    6: ("L1", "L2", "L3", "L4", "L4", "L5"),
}
_LEAST_RIM_MM = 0.8


class Row(NamedTuple):
    """Sizes of one level of one patient, mm."""

    name: str
    kind: str
    posterior: float
    anterior: float
    width: float
    depth: float
    rim: float
    disc_height: float
    canal_ap: float
    canal_width: float
    superior: float
    inferior: float


def level_rows(variants: Variants, fractured: bool) -> list[Row]:
    """Sizes of all levels, caudally; `rim` is the disc between the rims of the end plates."""
    build, lumbar = variants.build, _LUMBAR_KINDS[variants.lumbar_bodies]
    names = level_names(variants.lumbar_bodies)
    kinds = (*names[: len(names) - len(lumbar)], *lumbar)
    fractures = {f.level: f for f in variants.fractures} if fractured else {}
    rows = []
    for i, (name, kind) in enumerate(zip(names, kinds)):
        post, ant, width, depth, disc, canal_ap, canal_width = _SIZES[kind]
        post, ant = post * build.body_height, ant * build.body_height
        width, depth = width * build.body_width, depth * build.body_width
        superior, inferior = CONCAVITY[kind]
        last = i + 1 == len(names)
        below = SACRAL_CONCAVITY if last else CONCAVITY[kinds[i + 1]][0]
        change = variants.disc_change(f"{name}/{'S1' if last else names[i + 1]}")
        disc = disc * build.disc_height
        if change.grade is not None:
            disc = disc * float(np.interp(change.grade, (1, 3, 4, 5), (1.05, 1.0, 0.82, 0.5)))
        if last and variants.transitional == "sacralised":
            disc, ant, width = 0.42 * disc, 0.5 * (post + ant), 1.05 * width
        rim = disc - inferior - below
        if rim < _LEAST_RIM_MM:
            rim, disc = _LEAST_RIM_MM, _LEAST_RIM_MM + inferior + below
        if name in fractures:
            loss, tall = fractures[name].loss, (post + ant) / 2
            keep_ant, keep_post, up, down = {
                "wedge": (1 - loss, 1 - 0.1 * loss, 0.15 * loss, 0.0),
                "biconcave": (1 - 0.15 * loss, 1 - 0.1 * loss, 0.55 * loss, 0.35 * loss),
                "crush": (1 - loss, 1 - 0.8 * loss, 0.1 * loss, 0.05 * loss),
            }[fractures[name].shape]
            ant, post = ant * keep_ant, post * keep_post
            superior, inferior = superior + up * tall, inferior + down * tall
            width, depth = width * (1 + 0.06 * loss), depth * (1 + 0.06 * loss)
        canal_ap, canal_width = canal_ap * build.canal, canal_width * build.canal
        rows.append(
            Row(
                name=name,
                kind=kind,
                posterior=post,
                anterior=ant,
                width=width,
                depth=depth,
                rim=rim,
                disc_height=disc,
                canal_ap=canal_ap,
                canal_width=canal_width,
                superior=superior,
                inferior=inferior,
            )
        )
    return rows


def disc_wedges(lordosis_deg: float, rows: list[Row]) -> list[float]:
    """Wedge of the disc below every level, radians, for the wanted lordosis of these bodies."""
    lumbar = [row for row in rows if row.kind in _SHARES_DEG]
    wedges = [np.arctan2(row.anterior - row.posterior, row.depth) for row in lumbar]
    natural = [np.radians(_SHARES_DEG[row.kind]) - wedge for row, wedge in zip(lumbar, wedges)]
    stretch = (np.radians(lordosis_deg) - sum(wedges)) / sum(natural)
    above = [np.radians(_THORACIC_DISC_DEG[row.kind]) for row in rows[: -len(lumbar)]]
    return above + [angle * stretch for angle in natural]
