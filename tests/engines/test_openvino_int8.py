"""OpenVINO in int8: built from images, held against fp32 on others, refused where it is worse."""

from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest

from engines.calibration import cases, split
from engines.engine import Options, load_engine
from engines.errors import EngineUnavailable, NotReproduced
from engines.manifest import Manifest
from engines.store import Plan, PlanCache, arrays_of

pytest.importorskip("openvino", reason="needs OpenVINO, of the extra openvino")

from engines import openvino_int8_runtime as runtime
from engines.int8 import build, ends

RUNTIME = "openvino-int8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of a site: twelve of overlapping boxes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for number in range(12):
        image = np.zeros((160, 160), np.float32)
        for _ in range(8):
            y, x = rng.integers(0, 120, 2)
            image[y : y + 40, x : x + 30] += rng.random()
        np.save(folder / f"{number:02}.npy", image)
    return folder


@pytest.fixture(scope="module")
def built(exported_store, folder, tmp_path_factory):
    """Options with the plan of a network in int8, and its measured quality."""
    if find_spec("nncf") is None:
        pytest.skip("needs NNCF to build")
    options = Options(threads=1, plans=tmp_path_factory.mktemp("cache") / "plans")
    path, quality = build(exported_store.open("small"), folder, options)
    assert path.is_file()
    return options, quality


def _planes(*shape):
    planes = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    planes[:, 2] = 0.1
    return planes


def _plan(options):
    (plan,) = PlanCache(options.plans).find({"precision": "int8"})
    return plan


def test_what_was_built_serves_where_it_is_asked_for(exported_store, built):
    options, quality = built
    engine = load_engine("small", runtime=RUNTIME, store=exported_store, options=options)
    assert "int8" in engine.runtime and engine.reason is None
    fp32 = load_engine("small", store=exported_store, options=options)
    assert "ONNX Runtime" in fp32.runtime and "fp32" in fp32.runtime
    planes = _planes(2, 3, 64, 48) / 4
    found, expected = engine.outputs(planes), fp32.outputs(planes)
    assert found.keys() == expected.keys() == {"planes", "log_sigma"}
    difference = np.linalg.norm(found["planes"] - expected["planes"])
    assert 0 < difference < 0.05 * np.linalg.norm(expected["planes"])
    assert runtime.passes(quality) and quality.nrmse > 0 and quality.images == 8


def test_threads_do_not_change_the_result(exported_store, built):
    planes = _planes(1, 3, 64, 64) / 4
    one, two = (
        load_engine(
            "small", runtime=RUNTIME, store=exported_store, options=replace(built[0], threads=n)
        ).run(planes)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_a_bright_spot_is_not_cut_off(exported_store, built):
    """Planes beyond what was calibrated on go through fp32: the very numbers of OpenVINO's."""
    engine, fp32 = (
        load_engine("small", runtime=name, store=exported_store, options=built[0])
        for name in (RUNTIME, "openvino")
    )
    planes = _planes(1, 3, 64, 48) / 4
    assert (engine.run(planes) != fp32.run(planes)).any()
    planes[0, 0, 20, 20] = 6
    np.testing.assert_array_equal(engine.run(planes), fp32.run(planes))


def test_nothing_is_built_in_the_scan_path(exported_store, tmp_path):
    options = Options(plans=tmp_path / "plans")
    with pytest.raises(EngineUnavailable, match="engine build small --runtime openvino-int8"):
        load_engine("small", runtime=RUNTIME, store=exported_store, options=options)


def test_a_gate_that_is_not_met_keeps_nothing(exported_store, built, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("engines.openvino_int8_runtime.GATE", replace(runtime.GATE, nrmse=1e-9))
    options = Options(threads=1, plans=tmp_path / "plans")
    with pytest.raises(ValueError, match=r"small in int8 is not kept: expected .*, found worst of"):
        build(exported_store.open("small"), folder, options)
    assert not list((tmp_path / "plans").glob("*"))


@pytest.mark.parametrize(
    ("what", "value"), [("nrmse", 0.05), ("psnr_loss", 0.5), ("further", 0.3), ("images", 2)]
)
def test_what_is_not_good_enough_does_not_serve(exported_store, built, tmp_path, what, value):
    plan, plans = _plan(built[0]), tmp_path / "plans"
    quality = {**plan.notes["quality"], what: value}
    PlanCache(plans).put(Plan(plan.key, {"quality": quality}, plan.content))
    with pytest.raises(EngineUnavailable, match="is not good enough"):
        load_engine("small", runtime=RUNTIME, store=exported_store, options=Options(plans=plans))


@pytest.mark.parametrize("what", ["weights", "openvino", "processor", "instructions"])
def test_other_weights_versions_or_processors_need_their_own(exported_store, built, tmp_path, what):
    plan, plans = _plan(built[0]), tmp_path / "plans"
    PlanCache(plans).put(Plan({**plan.key, what: "another"}, plan.notes, plan.content))
    with pytest.raises(EngineUnavailable, match="no int8 model was built"):
        load_engine("small", runtime=RUNTIME, store=exported_store, options=Options(plans=plans))


def test_it_must_give_what_it_gave_when_it_was_measured(exported_store, built, tmp_path):
    plan, plans = _plan(built[0]), tmp_path / "plans"
    arrays, content = arrays_of(plan.content), BytesIO()
    arrays["golden_planes"] = arrays["golden_planes"] * 1.01
    np.savez(content, **arrays)
    PlanCache(plans).put(Plan(plan.key, plan.notes, content.getvalue()))
    with pytest.raises(NotReproduced, match="its output planes differs"):
        load_engine("small", runtime=RUNTIME, store=exported_store, options=Options(plans=plans))


@pytest.mark.parametrize(("depth", "layers"), [(1, 3), (3, 7)])
def test_first_and_last_layers_stay_in_single_precision(exported_store, depth, layers):
    """Head, tail and the error's; then also the first and the last block, of two layers each."""
    import openvino

    model = openvino.Core().read_model(exported_store.open("small").files["model.onnx"])
    kinds = {op.get_friendly_name(): op.get_type_name() for op in model.get_ordered_ops()}
    found = [kinds[name] for name in ends(model, depth)]
    assert found.count("Convolution") == layers and "ConvolutionBackpropData" not in found
    assert "Subtract" in found and "Relu" not in found


def test_a_network_with_further_inputs_is_named(exported_store, folder):
    weights = exported_store.open("small")
    inputs = (*weights.manifest.inputs, weights.manifest.inputs[0].model_copy())
    other = replace(weights, manifest=weights.manifest.model_copy(update={"inputs": inputs}))
    with pytest.raises(ValueError, match="expected planes to be its only input"):
        build(other, folder, Options())


class TestCases:
    def test_images_are_calibrated_on_or_held_out(self, folder):
        first, second = split(folder)
        assert (len(first), len(second)) == (9, 3)
        assert not set(first) & set(second)

    def test_a_folder_with_nothing_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="expected files of"):
            split(tmp_path)
        np.save(tmp_path / "one.npy", np.ones((8, 8)))
        with pytest.raises(ValueError, match="at least two images, found 1"):
            split(tmp_path)

    def _manifest(self, kind):
        channels = ("real", "imaginary", "sigma")
        axes = ("batch", "channel", "y", "x")
        put = {"name": "planes", "axes": axes, "channels": channels}
        return Manifest(
            name="any",
            version="1",
            kind=kind,
            architecture={},
            inputs=[put],
            outputs=[put],
            parameters={"sigma": [1, 0.5], "weight": [1]},
            licence="Apache-2.0",
        )

    @pytest.mark.parametrize("kind", ["denoiser", "regulariser"])
    def test_an_image_comes_of_the_networks_outputs(self, folder, kind):
        """Of a network that changes nothing: the image with its noise, in the truth's scale."""
        (first,), (second,) = cases(self._manifest(kind), folder, 1, 1)
        for case in (first, second):
            seen = []

            def outputs(planes, seen=seen):
                seen.append(planes.shape)
                return {"planes": planes[:, :2]}

            image, further = case.run(outputs)
            assert image.shape == case.truth.shape and further.keys() == {"planes"}
            assert len(seen) == (1 if kind == "denoiser" else 2)
            part = np.vdot(case.truth, image) / np.vdot(case.truth, case.truth)
            assert abs(part - 1) < 0.2
            assert np.percentile(np.abs(case.truth), 99) == pytest.approx(1, abs=0.5)
