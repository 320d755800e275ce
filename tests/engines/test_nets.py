"""The U-Net: homogeneous, of any size, built from its manifest."""

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra gpu")

from engines.nets import build  # noqa: E402

SMALL = {"name": "bias-free-unet", "channels": [8, 8, 16], "blocks": [1, 1, 1]}


def random_planes(*shape: int) -> "torch.Tensor":
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).double()


def shaken(architecture: dict) -> "torch.nn.Module":
    """A network whose every layer matters, unlike one at the start of its training."""
    torch.manual_seed(0)
    module = build(architecture).double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return module


def test_scaling_image_and_noise_scales_the_result() -> None:
    module, planes = shaken(SMALL), random_planes(1, 3, 16, 24)
    torch.testing.assert_close(module(17.0 * planes), 17.0 * module(planes))


def test_result_has_the_shape_of_the_image() -> None:
    assert build(SMALL)(torch.zeros(2, 3, 40, 72)).shape == (2, 2, 40, 72)


def test_expected_error_scales_too_and_is_never_zero() -> None:
    module, planes = shaken({**SMALL, "uncertainty": True}), random_planes(1, 3, 16, 16)
    _, once = module(planes)
    _, scaled = module(8.0 * planes)
    assert once.shape == (1, 1, 16, 16)
    torch.testing.assert_close(scaled.exp(), 8.0 * once.exp(), rtol=1e-2, atol=1e-5)
    assert torch.isfinite(module(torch.zeros(1, 3, 16, 16).double())[1]).all()


def test_no_pixel_is_moved_further_than_the_limit() -> None:
    planes = random_planes(1, 3, 16, 16)
    free, bounded = shaken(SMALL)(planes), shaken({**SMALL, "limit": 0.5})(planes)
    most = 0.5 * planes[:, 2:]
    expected = planes[:, :2] + torch.clamp(free - planes[:, :2], -most, most)
    torch.testing.assert_close(bounded, expected)
    assert not torch.equal(free, bounded)


def test_learning_the_error_leaves_the_image_alone() -> None:
    module = shaken({**SMALL, "uncertainty": True})
    module(random_planes(1, 3, 16, 16))[1].sum().backward()
    touched = {name for name, weight in module.named_parameters() if weight.grad is not None}
    assert touched == {"error.weight"}


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="bias-free-unet"):
        build({"name": "transformer"})
