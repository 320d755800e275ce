"""Pages of a summary: what is on them, where marks fall, and how they leave. Made-up images."""

from dataclasses import replace

import numpy as np
import pytest

from gadgets.finish import Finish
from gadgets.items import Labelled, LabelMap, Role, Series
from gadgets.summary import SIDE, STRIP, TOP, summary, summary_images
from gadgets.summary_draw import FOUND, View, screen_axes, shown, wrapped
from gadgets.summary_text import MARK, cannot_judge, looks, place, probability, quality, sizes
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Measure, Quality
from protocols.geometry import Volume
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage
from scanner.exam import quick_exam
from scanner.phantom import LumbarSpine

SAGITTAL = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
LESION = (22.0, 30.0, -60.0)
NAMES = ("t1_tse_sag", "t2_tse_sag", "stir_sag")


def volume(directions=SAGITTAL, slices=7, matrix=120, pitch=11.0):
    spacing = np.array([290 / matrix, 290 / matrix, pitch])
    return Volume(np.array([0.0, 10, -20]), directions, (slices, matrix, matrix), spacing)


def series(name="stir_sag", where=None, spot=LESION):
    """A grey block with noise, fat along its end, and a bright ball of 8 mm radius."""
    where = where or volume()
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in where.shape), indexing="ij")
    at = where.position + np.stack([x, y, z], -1) * where.spacing @ where.directions
    data = 30 + np.random.default_rng(1).standard_normal(where.shape)
    data[..., -15:] = 150
    data[np.linalg.norm(at - spot, axis=-1) < 8] = 120
    kind = name.split("_")[0]
    return Series(name, data.astype(np.float32), where, kind, True)


def finding(**fields):
    about = {
        "id": "a",
        "type": "oedema_like",
        "structure": "sacral_subchondral",
        "side": "left",
        "level": "S1",
        "centre_mm": LESION,
        "extent_mm": (16, 16, 16),
        "volume_ml": 0.8,
        "depth_mm": 7,
        "cnr": 7.2,
        "probability": 0.93,
        "series": ("stir_sag", "t1_tse_sag"),
        "slices": (1,),
        "adjacent_slices": 1,
        "area_mm2": 200,
    }
    return Finding(**{**about, **fields})


def exam(*found, **fields):
    about = {
        "exam": "b7",
        "series": NAMES,
        "findings": found,
        "quality": tuple(Quality(series=name, snr=20, motion=0.1) for name in NAMES),
        "coverage": (
            EvidenceCoverage(structure="iliac_subchondral", side="left", shown=0.12, judged=False),
        ),
        "measures": (Measure(name="lordosis", value=47.3, unit="deg"),),
    }
    return ExamFindings(**{**about, **fields})


def labelled(**fields):
    found = []
    for name in NAMES:
        one = replace(series(name), **fields)
        bodies = {f"L{n}": np.array([0.0, 20, 50 - 32 * n]) for n in range(1, 6)}
        labels = LabelMap(
            np.zeros(one.volume.shape, np.uint8), ("", "L1"), one.volume, bodies, {"levels": 0.9}
        )
        found.append(Labelled(one, labels, Quality(series=name, snr=20, motion=0.1)))
    return found


def coloured(picture, colour, tolerance=40):
    return np.abs(picture.astype(int) - colour).max(axis=-1) < tolerance


class TestPages:
    def test_an_overview_and_a_page_for_each_finding(self):
        pages = summary(exam(finding(), finding(id="b", side="right")), labelled())
        assert [page.title for page in pages] == [
            "Summary",
            "Oedema-like signal",
            "Oedema-like signal",
        ]
        for page in pages:
            assert page.picture.shape == (SIDE, SIDE, 3) and page.picture.dtype == np.uint8

    def test_the_mark_is_burned_into_every_page(self):
        for page in summary(exam(finding()), labelled()):
            strip = coloured(page.picture[: STRIP - 2], FOUND)
            assert 0.9 < strip.mean() < 0.995  # amber, with words in it

    def test_the_finding_is_framed_where_it_is(self):
        """Corners in the finding's colour around the spot, and nothing of them upon it."""
        page = summary(exam(finding()), labelled())[1]
        x, y = page.view.place(np.array(LESION))
        main = page.picture[TOP : TOP + 640, 24 : 24 + 640]
        marks = np.argwhere(coloured(main, FOUND))
        pixels = 11 / page.view.mm_per_pixel  # half of 16 mm, and a margin of 3
        box = [y - pixels, x - pixels, y + pixels, x + pixels]
        np.testing.assert_allclose([*marks.min(axis=0), *marks.max(axis=0)], box, atol=3)
        spot = main[round(y) - 20 : round(y) + 20, round(x) - 20 : round(x) + 20]
        assert spot.min() > 150 and not coloured(spot, FOUND).any()

    def test_its_slice_is_the_one_in_which_it_was_found(self):
        page = summary(exam(finding()), labelled())[1]
        assert volume().index(page.view.centre)[0] == pytest.approx(1)

    def test_a_slice_that_the_series_does_not_have_is_not_asked_for(self):
        page = summary(exam(finding(slices=(99,))), labelled())[1]
        assert volume().index(page.view.centre)[0] == pytest.approx(1)

    def test_a_finding_whose_series_is_gone_is_on_the_overview_only(self):
        assert len(summary(exam(finding(series=("axial",))), labelled())) == 1

    def test_without_labels_or_other_series(self):
        alone = [replace(labelled()[2], labels=None)]
        assert len(summary(exam(finding()), alone)) == 2

    def test_other_planes_are_shown_as_they_are_looked_at(self):
        coronal = volume(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), pitch=4.0, slices=9)
        one = series("stir_cor", coronal, (22.0, 14.0, -60.0))
        seen = [*labelled(), Labelled(one, None, Quality(series="stir_cor", snr=9, motion=0))]
        found = finding(series=("stir_cor",), centre_mm=(22.0, 14.0, -60.0), slices=(5,))
        view = summary(exam(found), seen)[1].view
        np.testing.assert_allclose([view.right, view.down], [[1, 0, 0], [0, 0, -1]])

    def test_much_to_say_stays_on_the_page(self):
        many = [finding(id=str(n)) for n in range(30)]
        about = exam(*many, abstained="word " * 200, levels_certain=False, agreement=False)
        page = summary(about, labelled())[0]
        assert coloured(page.picture[: STRIP - 2], FOUND).mean() > 0.9

    def test_there_must_be_a_series(self):
        with pytest.raises(ValueError, match="expected at least one series"):
            summary(exam(), [])

    def test_images_of_zeros_and_of_one_slice(self):
        dark = Series("stir_sag", np.zeros((1, 20, 20), np.float32), volume(slices=1, matrix=20))
        seen = [Labelled(dark, None, Quality(series="stir_sag", snr=0, motion=0))]
        assert len(summary(exam(finding(slices=(0,))), seen)) == 2


class TestViews:
    @pytest.mark.parametrize("turn", range(8))
    def test_slices_are_upright_however_they_were_acquired(self, turn):
        """Sagittal: front to the left, head up, by turns and flips of rows and columns."""
        axes = SAGITTAL.copy()
        if turn & 1:
            axes[[0, 1]] = axes[[1, 0]]
        axes[0] *= -1 if turn & 2 else 1
        axes[1] *= -1 if turn & 4 else 1
        axes[2] = np.cross(axes[0], axes[1])
        right, down = screen_axes(volume(axes))
        np.testing.assert_allclose([right, down], [[0, 1, 0], [0, 0, -1]])

    def test_letters_say_where_its_sides_lie(self):
        view = View(np.zeros(3), *(np.array(a, float) for a in ((0, 1, 0), (0, 0, -1))), 1, 9, 9)
        assert view.letters() == ("A", "P", "H", "F")
        axial = View(np.zeros(3), *(np.array(a, float) for a in ((1, 0, 0), (0, 1, 0))), 1, 9, 9)
        assert axial.letters() == ("R", "L", "A", "P")

    def test_a_spot_is_shown_where_it_is(self):
        one = series()
        right, down = screen_axes(one.volume)
        centre = np.array(LESION) + 7 * right - 12 * down
        view = View(centre, right, down, 0.5, 160, 120)
        bright = np.argwhere(shown(one, view) > 150)
        expected = view.place(np.array(LESION))
        np.testing.assert_allclose(bright.mean(axis=0)[::-1], expected, atol=2)
        np.testing.assert_allclose(view.points()[60, 80], view.centre + 0.25 * (right + down))

    def test_what_a_series_does_not_show(self):
        one = series()
        right, down = screen_axes(one.volume)
        assert shown(one, View(np.array([50.0, 0, 0]), right, down, 1, 50, 50)) is None
        tilted = View(np.zeros(3), np.array([0.6, 0.8, 0]), down, 1, 50, 50)
        assert shown(one, tilted) is None


class TestImages:
    def test_they_leave_as_derived_pages_of_a_series_of_their_own(self):
        header = parse_header(quick_exam(LumbarSpine())[2].header_xml)
        findings = exam(finding())
        pages = summary(findings, labelled())
        images = summary_images(pages, findings)
        sent = [item for item in Finish(header)(iter(images)) if isinstance(item, ImageMessage)]
        assert len(sent) == 2
        for number, (message, page) in enumerate(zip(sent, pages)):
            meta = parse_meta(message.attributes)
            assert message.data.shape[-2:] == (SIDE, SIDE) and message.data.dtype == np.uint16
            assert message.header["image_index"] == number + 1
            assert message.header["image_series_index"] > 1
            assert meta["BoresideRole"] == "derived" and meta["BoresideQuantity"] == "summary"
            assert meta["DataRole"] == "Image" and MARK in meta["ImageComments"]
            assert "AI" in meta["ImageProcessingHistory"]
            assert any("summary of t1_tse_sag" in h for h in meta["ImageProcessingHistory"])
            grey = message.data[0, 0].astype(float)
            expected = page.picture @ np.array([0.299, 0.587, 0.114])
            assert np.corrcoef(grey.ravel(), expected.ravel())[0, 1] > 0.9999
            mm = message.header["field_of_view"][0] / SIDE
            assert mm == pytest.approx(page.view.mm_per_pixel, rel=1e-5)
        assert all(image.role is Role.DERIVED for image in images)


class TestWords:
    def test_how_it_looks_only_on_contrasts_that_show_it(self):
        assert looks(finding(), ["stir", "t1"]) == "Bright on STIR, dark on T1"
        assert looks(finding(), ["stir"]) == "Bright on STIR"
        dark = finding(type="sclerosis_like")
        assert looks(dark, ["t1", "t2", "stir"]) == "Dark on T1, T2 and STIR"
        assert looks(finding(type="canal_narrow"), ["t2"]) == ""

    def test_a_narrow_canal_has_a_diameter_other_findings_a_contrast(self):
        canal = finding(type="canal_narrow", structure="canal", volume_ml=0, area_mm2=0, cnr=0,
                        depth_mm=None, extent_mm=(12, 5.2, 8))  # fmt: skip
        assert sizes(canal) == "5 mm from front to back"
        assert sizes(finding()).endswith("contrast 7.2 times the noise")

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({}, "Left sacrum beside the SI joint, S1"),
            ({"structure": "iliac_subchondral", "level": None}, "Left ilium beside the SI joint"),
            ({"structure": "disc", "side": "midline", "level": "L4/L5"}, "L4/L5 disc"),
            ({"structure": "facet", "side": "right", "level": "L4"}, "L4 right facet joint"),
            ({"structure": "vertebra", "side": "midline", "level": None}, "Vertebral body"),
        ],
    )
    def test_where_it_is(self, fields, words):
        assert place(finding(**fields)) == words

    def test_what_cannot_be_judged(self):
        (one,) = exam().coverage
        assert cannot_judge(one) == "left iliac subchondral bone, 12 % shown"

    def test_no_probability_is_certain(self):
        assert probability(finding(probability=1)) == "p 0.99"
        assert probability(finding(probability=0)) == "p 0.01"

    def test_quality(self):
        poor = Quality(series="s", snr=7, motion=0.4, fat_suppression_failed=0.2, wrapped=True)
        assert quality(poor) == "SNR 7, motion 0.40, fat bright 20 %, folds over"

    def test_lines_are_no_wider_than_asked(self):
        lines = wrapped("the quick brown fox jumps over the lazy dog", 17, 120)
        assert len(lines) > 2 and " ".join(lines) == "the quick brown fox jumps over the lazy dog"
        assert wrapped("", 17, 120) == [""]
