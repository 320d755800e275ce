"""`OtherSpine`: the second phantom, sampled at any point as the first one is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scanner.other_phantom.bones import (
    AURICULAR_S,
    FAR,
    Pelvis,
    arch_distance,
    body_distance,
    disc_distance,
)
from scanner.other_phantom.column import Column
from scanner.other_phantom.field import Waves
from scanner.other_phantom.parameters import OtherParameters
from scanner.other_phantom.soft import Canal, Torso
from scanner.phantom.spine import TissueSample
from scanner.structures import LABEL
from scanner.tissues import Label

_BLOCK = 1 << 15
_FACET_SPACE = 1.7
_JOINT_LABEL_MM = 1.0
"""Sacroiliac labels reach this far into the bone on both sides."""


@dataclass(frozen=True)
class Blob:
    """A lesion: an ellipsoid in which a share of the marrow is another tissue.

    Attributes
    ----------
    centre_mm, radii_mm : (float, float, float)
        DICOM LPS.
    label : scanner.tissues.Label
    fat : float
        Fat fraction of the other tissue.
    share : float
        At the core, 0-1; it falls to zero over the outer third of the radius.
    density : float
    """

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    label: Label = Label.OEDEMA
    fat: float = 0.1
    share: float = 1.0
    density: float = 1.0

    def share_at(self, points: np.ndarray) -> np.ndarray:
        """Share of the tissue at points (point, 3), LPS mm, were all of it marrow: float32."""
        centre, radii = (np.array(v, np.float32) for v in (self.centre_mm, self.radii_mm))
        off = (points - centre) / radii
        r = np.linalg.norm(off, axis=1)
        return np.asarray(self.share * np.clip((1 - r) * 3, 0, 1), np.float32)


class Sheet:
    """Points being painted: positions, curve coordinates and the four results."""

    def __init__(self, points: np.ndarray, column: Column) -> None:
        self.points = points
        self.curve = column.coordinates(points)
        count = len(points)
        self.labels = np.zeros(count, np.uint8)
        self.density = np.ones(count, np.float32)
        self.fat = np.zeros(count, np.float32)
        self.structure = np.zeros(count, np.uint8)

    def paint(
        self,
        mask: np.ndarray,
        label: Label,
        density: np.ndarray | float = 1.0,
        fat: np.ndarray | float = 0.0,
    ) -> None:
        """Give points a tissue."""
        self.labels[mask] = label
        self.density[mask] = density[mask] if isinstance(density, np.ndarray) else density
        self.fat[mask] = fat[mask] if isinstance(fat, np.ndarray) else fat

    def name(self, mask: np.ndarray, structure: str) -> None:
        """Say to which structure points belong."""
        self.structure[mask] = LABEL[structure]


class OtherSpine:
    """A patient of the second phantom; origin at the third body above the sacrum (L3 of five).

    Parameters
    ----------
    parameters : OtherParameters or None
    blobs : tuple of Blob
        Lesions.
    """

    def __init__(
        self, parameters: OtherParameters | None = None, blobs: tuple[Blob, ...] = ()
    ) -> None:
        self.parameters = parameters or OtherParameters()
        self.blobs = blobs
        rng = np.random.default_rng((self.parameters.seed, 77))
        age = self.parameters.age
        self.column = Column(self.parameters, rng)
        self._pelvis = Pelvis(self.column, age, rng)
        self._torso = Torso(self.column, age, self.parameters.fatness, rng)
        self._canal = Canal(self.column, rng)
        self._patches, self._grain = Waves(rng, 13.0), Waves(rng, 4.5)
        self._rough, self._field = Waves(rng, 14.0), Waves(rng, 260.0)
        self._marrow_fat = float(np.clip(0.12 + 0.006 * age + rng.normal(0, 0.04), 0.15, 0.68))
        worn = (age - 25) / 80 + 0.35 * self.parameters.wear
        ranks = np.array([disc.rank for disc in self.column.discs])
        noise = rng.normal(0, 0.12, len(ranks))
        self._wear = np.clip(worn + 0.16 * np.exp(-ranks / 1.3) + noise, 0, 1)
        if self.parameters.transitional == "sacralised":
            self._wear[-1] = 0.9

    def sample(self, points: np.ndarray) -> TissueSample:
        """Tissue at points (..., 3), DICOM LPS mm, float32."""
        points = np.asarray(points, np.float32)
        flat = points.reshape(-1, 3)
        labels = np.empty(len(flat), np.uint8)
        density, fat = np.empty(len(flat), np.float32), np.empty(len(flat), np.float32)
        for part, sheet in self._painted(flat):
            labels[part], density[part], fat[part] = sheet.labels, sheet.density, sheet.fat
        second = self._diseased(flat, labels, density)
        return TissueSample(labels, density, fat, second).reshape(points.shape[:-1])

    def structure_labels(self, points: np.ndarray) -> np.ndarray:
        """Index into `scanner.structures.STRUCTURES` at points (..., 3): uint8 (...)."""
        points = np.asarray(points, np.float32)
        flat = points.reshape(-1, 3)
        found = np.empty(len(flat), np.uint8)
        for part, sheet in self._painted(flat):
            found[part] = sheet.structure
        return found.reshape(points.shape[:-1])

    def b0_ppm(self, points: np.ndarray) -> np.ndarray:
        """Off-resonance in ppm at points (..., 3): smooth, with gas below the diaphragm."""
        points = np.asarray(points, np.float32)
        p = points.reshape(-1, 3)
        bowel = np.array((30, -85, 40), np.float32)
        gas = np.exp(-np.sum(((p - bowel) / np.float32(65)) ** 2, axis=1))
        lung = np.exp(-np.clip(190 - p[:, 2], 0, None) / np.float32(45))
        field = 0.12 * self._field(p) + 0.5 * gas * np.clip(p[:, 2] / 60, -1, 1) - 0.4 * lung
        return np.asarray(field.reshape(points.shape[:-1]), np.float32)

    def landmarks(self) -> dict[str, np.ndarray]:
        """Exact landmarks, named as those of `scanner.phantom.landmarks`; LPS mm."""
        found: dict[str, np.ndarray] = {}
        for part in (*self.column.bodies, self.column.by_name["S1"]):
            found[part.name] = part.centre
            for end in ("superior",) if part.name == "S1" else ("superior", "inferior"):
                for wall in ("anterior", "posterior"):
                    corner = part.corner(back=wall == "posterior", upper=end == "superior")
                    found[f"{part.name}_{end}_{wall}"] = corner
        for name, cortex in self._dorsal(1.0).items():
            found[f"{name}_dorsal_superior"] = cortex[0]
            found[f"{name}_dorsal_inferior"] = cortex[-1]
        for side, joint in self._auricular(2.0).items():
            found[f"SI_{side}"] = joint.mean(axis=0)
        return {name: np.asarray(p, float) * self.parameters.scale for name, p in found.items()}

    def auricular_points(self, step_mm: float = 2.0) -> dict[str, np.ndarray]:
        """Points on the middle of both sacroiliac joints: "left", "right" to (point, 3), LPS mm."""
        scale = self.parameters.scale
        return {side: p * scale for side, p in self._auricular(step_mm / scale).items()}

    def dorsal_cortex(self, step_mm: float = 1.0) -> dict[str, np.ndarray]:
        """Midline points on the dorsal cortex of "S1", "S2", "S3", caudally ordered, LPS mm."""
        scale = self.parameters.scale
        return {name: p * scale for name, p in self._dorsal(step_mm / scale).items()}

    def _dorsal(self, step: float) -> dict[str, np.ndarray]:
        found, start = {}, 0.0
        for part in self.column.sacrum[:3]:
            s = np.linspace(start, start + part.height, max(int(part.height / step), 2))
            found[part.name] = self.column.position(s, 0 * s, 0 * s)
            start += part.height
        return found

    def _auricular(self, step: float) -> dict[str, np.ndarray]:
        s, d = np.meshgrid(np.arange(*AURICULAR_S, step), np.arange(-26, 22, step))
        s, d = s.ravel(), d.ravel()
        inside = self._pelvis.region(s, d) < 0
        s, d = s[inside], d[inside]
        found = {}
        for side, sign in (("left", 1.0), ("right", -1.0)):
            x = sign * self._pelvis.middle(s, d, np.full(s.shape, sign > 0))
            points = self.column.position(s, x, d)
            sheet = self._paint(points.astype(np.float32))
            found[side] = points[np.isin(sheet.labels, (Label.CARTILAGE, Label.JOINT_FLUID))]
        return found

    def _painted(self, flat: np.ndarray) -> Iterator[tuple[slice, Sheet]]:
        scale = np.float32(1 / self.parameters.scale)
        for start in range(0, len(flat), _BLOCK):
            part = slice(start, start + _BLOCK)
            yield part, self._paint(flat[part] * scale)

    def _paint(self, points: np.ndarray) -> Sheet:
        """Everything at points (point, 3), before scale."""
        sheet = Sheet(points, self.column)
        self._torso.paint(sheet)
        self._canal.paint_fat(sheet)
        bone = self._paint_pelvis(sheet)
        bone = self._paint_vertebrae(sheet, bone)
        herniated = self._paint_discs(sheet, bone)
        self._canal.paint_sac(sheet, (bone < 0.3) | herniated)
        return sheet

    def _marrow(self, sheet: Sheet, mask: np.ndarray, shift: float) -> None:
        points = sheet.points[mask]
        coarse, fine = self._patches(points), self._grain(points)
        fat = self._marrow_fat + shift + 0.06 * coarse + 0.035 * fine
        fat = np.where(coarse < -1.6, fat - 0.10, fat)
        sheet.labels[mask] = Label.MARROW
        sheet.fat[mask] = np.clip(fat, 0.05, 0.88)
        sheet.density[mask] = 1 + 0.04 * fine

    def _bone(self, sheet: Sheet, index: np.ndarray, bone: np.ndarray, cortex: float) -> np.ndarray:
        """Paint cortex and return the mask, over all points, of what lies inside of it."""
        sheet.paint(index[bone < 0], Label.CORTICAL_BONE)
        inside = np.zeros(len(sheet.points), bool)
        inside[index[bone < -cortex]] = True
        return inside

    def _paint_pelvis(self, sheet: Sheet) -> np.ndarray:
        """Sacrum, ilia and the joints between them; returns the distance to bone."""
        whole = np.full(len(sheet.points), FAR)
        s = sheet.curve[:, 0]
        index = np.flatnonzero((s > -75) & (sheet.points[:, 2] < -20))
        if not index.size:
            return whole
        points, curve = sheet.points[index], sheet.curve[index]
        rough = 0.4 * self._rough(points)
        sacrum, first = self._pelvis.sacrum(points, curve)
        sacrum = np.where(np.abs(curve[:, 2]) < 45, sacrum + rough, FAR)
        ilium = self._pelvis.ilium(points, curve) + rough
        off, half_gap, region = self._pelvis.joint(curve)
        joint = (np.abs(off) < half_gap + 0.6) & (sacrum > 0) & (ilium > 0)
        joint &= sacrum + ilium < 2 * half_gap + 2.0
        sheet.paint(index[joint], Label.CONNECTIVE, 0.8, 0.55)
        articular = joint & (region < 0)
        sheet.paint(index[articular], Label.CARTILAGE)
        sheet.paint(index[articular & (np.abs(off) < 0.15)], Label.JOINT_FLUID, 0.5)
        holes = (self._pelvis.holes(curve[:, 0], np.abs(curve[:, 1]), curve[:, 2]) < 0) & (
            np.abs(curve[:, 2] + 2) < 18
        )
        sheet.paint(index[holes & (sacrum > 0)], Label.FAT, 1.0, 0.9)
        sacral = index[sacrum < 0]
        self._marrow(sheet, self._bone(sheet, index, sacrum, 0.9), 0.03)
        self._marrow(sheet, self._bone(sheet, index, ilium, 1.3), 0.08)
        sheet.structure[sacral] = LABEL["sacrum"]
        body = (first < 0.4) & (sacrum < 0) & (curve[:, 0] < self._pelvis.parts[0].height)
        sheet.structure[index[body & (curve[:, 2] < 0.5)]] = LABEL["S1"]
        self._paint_remnants(sheet, index, sacrum)
        bony = (np.abs(off) < half_gap + _JOINT_LABEL_MM) & (np.minimum(sacrum, ilium) < 0)
        surface = (region < 0) & ((articular) | (bony & (np.abs(off) > half_gap)))
        for name, side in (("SI_left", curve[:, 1] > 0), ("SI_right", curve[:, 1] < 0)):
            sheet.structure[index[surface & side]] = LABEL[name]
        whole[index] = np.minimum(sacrum, ilium)
        return whole

    def _paint_remnants(self, sheet: Sheet, index: np.ndarray, sacrum: np.ndarray) -> None:
        """Discs between the fused sacral bodies; a lumbarised S1 has a real one."""
        s, x, d = sheet.curve[index].T
        at = 0.0
        for k, (part, below) in enumerate(zip(self.column.sacrum[:3], self.column.sacrum[1:])):
            at += part.height
            real = k == 0 and self.parameters.transitional == "lumbarised"
            thick = 2.9 if real else (1.3, 0.7, 0.4)[k]
            half, deep = below.half_width * (0.98 if real else 0.75), below.half_depth
            deep *= 0.95 if real else 0.7
            r = np.hypot(x / half, (d + below.half_depth) / deep)
            near = np.abs(s - at)
            sheet.paint(index[(r < 1) & (near < thick + 0.7) & (sacrum < 0)], Label.CORTICAL_BONE)
            core = (r < 0.96) & (near < thick * (1.1 - 0.3 * r * r)) & (sacrum < 0)
            tissue = Label.NUCLEUS_INTERMEDIATE if real else Label.DISC_DESICCATED
            sheet.paint(index[core], tissue, 0.85)
            if real:
                sheet.structure[index[core]] = LABEL["S1/S2"]

    def _paint_vertebrae(self, sheet: Sheet, bone: np.ndarray) -> np.ndarray:
        """Bodies and arches; facing arches keep a joint space. Returns the distance to bone."""
        count = len(sheet.points)
        arch, second = np.full(count, FAR), np.full(count, FAR)
        rough = np.zeros(count, np.float32)
        near_curve = (np.abs(sheet.curve[:, 1]) < 62) & (np.abs(sheet.curve[:, 2]) < 62)
        near_curve &= sheet.curve[:, 0] < 45
        near_index = np.flatnonzero(near_curve)
        if not near_index.size:
            return bone
        rough[near_index] = 0.35 * self._rough(sheet.points[near_index])
        fused = self.parameters.transitional == "sacralised"
        bodies = []
        for part in self.column.bodies:
            off = sheet.points[near_index] - part.centre.astype(np.float32)
            index = near_index[np.einsum("ij,ij->i", off, off) < 75**2]
            if not index.size:
                continue
            q = part.local(sheet.points[index])
            here = np.abs(q[:, 2]) < 40
            index, q = index[here], q[here]
            body, plate = body_distance(part, q)
            own = arch_distance(part, q, fused and part.rank == 1) + rough[index]
            second[index] = np.minimum(second[index], np.maximum(arch[index], own))
            arch[index] = np.minimum(arch[index], own)
            bodies.append((part, index, q, body + rough[index], plate))
        facet = (arch < 0) & (second - arch < _FACET_SPACE)
        sheet.paint(facet, Label.CARTILAGE)
        arch = np.where(facet, np.float32(0.1), arch)
        solid = np.flatnonzero(arch < 0)
        self._marrow(sheet, self._bone(sheet, solid, arch[solid], 1.2), 0.1)
        bone = np.minimum(bone, arch)
        for part, index, q, body, plate in bodies:
            inside = self._bone(sheet, index, body, 0.8)
            self._marrow(sheet, inside, -0.01 * part.rank)
            sheet.name(index[body < 0], part.name)
            old = max(self.parameters.age - 45, 0) * 0.004
            rim = inside[index] & (plate > -4)
            sheet.fat[index[rim]] = np.minimum(sheet.fat[index[rim]] + old, 0.9)
            inward = part.half_depth - q[:, 1]
            vein = np.hypot(q[:, 0] / (2 + 0.35 * inward), q[:, 2] / (2.2 - 0.14 * inward)) < 1
            sheet.paint(index[inside[index] & vein & (inward < 11)], Label.VEIN, 0.85, 0.15)
            bone[index] = np.minimum(bone[index], body)
        return bone

    def _paint_discs(self, sheet: Sheet, bone: np.ndarray) -> np.ndarray:
        """Discs between the bodies; returns where they are."""
        held = np.zeros(len(sheet.points), bool)
        for part, wear in zip(self.column.discs, self._wear):
            off = sheet.points - part.centre.astype(np.float32)
            index = np.flatnonzero((np.einsum("ij,ij->i", off, off) < 38**2) & (bone > 0))
            if not index.size:
                continue
            q = part.local(sheet.points[index])
            edge = disc_distance(part, q, 0.4 + 1.6 * wear) + 0.35 * self._rough(q)
            inside = (edge < 0) & (np.abs(q[:, 2]) < part.height / 2 + 7)
            index, q, edge = index[inside], q[inside], edge[inside]
            core = np.sqrt(
                (q[:, 0] / (0.72 * part.half_width)) ** 2
                + ((q[:, 1] - 1) / (0.68 * part.half_depth)) ** 2
                + (q[:, 2] / (0.75 * part.height)) ** 2
            )
            wet = np.clip(1.35 - core, 0, 1) * (1 - 0.85 * wear) + 0.05 * self._grain(q)
            wet = wet - 0.25 * np.exp(-((q[:, 2] / 0.9) ** 2)) * (core < 0.75)
            sheet.paint(index, Label.ANNULUS)
            for least, label in (
                (0.16, Label.DISC_DESICCATED),
                (0.36, Label.NUCLEUS_INTERMEDIATE),
                (0.58, Label.NUCLEUS),
            ):
                sheet.paint(index[wet > least], label)
            sheet.paint(index[edge > -1.2], Label.LIGAMENT)
            sheet.name(index, part.name)
            held[index] = True
        return held

    def _diseased(
        self, flat: np.ndarray, labels: np.ndarray, density: np.ndarray
    ) -> TissueSample | None:
        """The lesions' tissue; takes its share from ``density``."""
        if not self.blobs:
            return None
        second = TissueSample(np.zeros_like(labels), 0 * density, 0 * density)
        for blob in self.blobs:
            share = blob.share_at(flat) * (labels == Label.MARROW)
            hit = share > second.density
            second.labels[hit] = blob.label
            second.density[hit] = share[hit]
            second.fat_fraction[hit] = blob.fat
        taken = second.density.copy()
        for blob in self.blobs:
            second.density[second.labels == blob.label] *= blob.density
        density *= 1 - taken
        return second
