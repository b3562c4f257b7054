"""`convolve` against a plain loop over the kernel's pixels in float64, PyTorch, and JAX's own rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.errors import UserError
from jaxdl.models import convolution
from jaxdl.models.convolution import Convolution, convolve

pytestmark = pytest.mark.usefixtures("quick_compilation")

# image [B, H, W, C], kernel side, features, stride, padding, groups
CASES = {
    "same": ((19, 9, 7, 20), 3, 6, 1, 1, 1),  # two blocks of images and 3 left over
    "rows": ((9, 8, 9, 3), 3, 4, 1, 0, 1),
    "stride": ((17, 9, 8, 17), 3, 4, 2, 1, 1),
    "stride_of_1x1": ((8, 8, 7, 5), 1, 3, 2, 0, 1),
    "asymmetric": ((3, 8, 8, 4), 4, 5, 2, ((0, 3), (2, 1)), 1),
    "even_kernel": ((2, 5, 6, 3), 2, 4, 1, ((1, 0), (0, 1)), 1),
    "kernel_larger_than_image": ((4, 5, 4, 2), 11, 3, 1, 5, 1),
    "more_padding_than_kernel": ((2, 5, 5, 18), 3, 2, 1, 4, 1),
    "stride_beyond_kernel": ((2, 9, 10, 3), 2, 2, 3, 0, 1),
    "groups": ((9, 7, 6, 4), 3, 6, 2, 1, 2),
    "depthwise": ((3, 6, 7, 4), 3, 4, 1, 1, 4),
}


def arrays(image, side, features, groups, runs=()):
    generator = np.random.default_rng(0)
    kernel = (side, side, image[-1] // groups, features)
    return [generator.normal(size=(*runs, *shape)).astype(np.float32) for shape in (image, kernel)]


def by_loop(image, kernel, stride, padding, groups, gradient=None):
    """y, x' and k' for the y' given (default: y), in float64, one pixel of the kernel after another."""
    image, kernel = np.float64(image), np.float64(kernel)
    pairs = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    padded = np.pad(image, ((0, 0), *pairs, (0, 0)))
    rows, columns, channels, features = kernel.shape
    high, wide = (padded.shape[1] - rows) // stride + 1, (padded.shape[2] - columns) // stride + 1
    each = features // groups
    # For each pixel of the kernel and each group: where in the padded image, in the kernel and in the output.
    pieces = [
        (
            (
                slice(None),
                slice(row, row + stride * (high - 1) + 1, stride),
                slice(column, column + stride * (wide - 1) + 1, stride),
                slice(group * channels, (group + 1) * channels),
            ),
            (row, column, slice(None), slice(group * each, (group + 1) * each)),
            (..., slice(group * each, (group + 1) * each)),
        )
        for row, column, group in np.ndindex(rows, columns, groups)
    ]
    output = np.zeros((len(image), high, wide, features))
    for seen, weights, to in pieces:
        output[to] += padded[seen] @ kernel[weights]
    gradient = output if gradient is None else np.float64(gradient)
    to_image, to_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for seen, weights, to in pieces:
        to_image[seen] += gradient[to] @ kernel[weights].T
        to_kernel[weights] += np.einsum("bijc,bijf->cf", padded[seen], gradient[to])
    (top, _), (left, _) = pairs
    return output, to_image[:, top : top + image.shape[1], left : left + image.shape[2]], to_kernel


def with_gradients(image, kernel, stride, padding, groups):
    """y, x' and k' for y' = y."""
    output, back = jax.vjp(lambda image, kernel: convolve(image, kernel, stride, padding, groups), image, kernel)
    return output, *back(output)


def close(found, wanted, tolerance=1e-5):
    """Equal up to `tolerance` of the largest entry."""
    for one, other in zip(found, wanted, strict=True):
        other = np.asarray(other, np.float64)
        assert one.shape == other.shape
        np.testing.assert_allclose(np.asarray(one, np.float64), other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_output_and_gradients(case):
    shape, side, features, *how = case
    image, kernel = arrays(shape, side, features, how[-1])
    found = jax.jit(with_gradients, static_argnums=(2, 3, 4))(image, kernel, *how)
    close(found, by_loop(image, kernel, *how))


@pytest.mark.parametrize("name", ["same", "asymmetric", "groups"])
def test_rules_of_other_devices(name):
    """Those run on no CPU unless they are called."""
    shape, side, features, *how = CASES[name]
    image, kernel = arrays(shape, side, features, how[-1])
    wanted = by_loop(image, kernel, *how)
    pairs = ((how[1],) * 2,) * 2 if isinstance(how[1], int) else how[1]
    geometry = convolution._Geometry(how[0], pairs, how[2], image.shape[1:3], kernel.shape[:2])
    output = convolution._output_elsewhere(image, kernel, geometry)
    to_image = convolution._image_gradient_elsewhere(output, kernel, geometry)
    close((output, to_image, convolution._kernel_gradient_elsewhere(image, output, geometry)), wanted)


def test_rules_are_chosen_by_the_platform_of_the_program():
    """Of a GPU's program on a machine without one: three convolutions as JAX writes them, no loop over blocks."""
    image, kernel = arrays((32, 8, 8, 4), 3, 20, 1)
    traced = jax.jit(with_gradients, static_argnums=(2, 3, 4)).trace(image, kernel, 1, 1, 1)
    elsewhere = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert elsewhere.count("stablehlo.convolution") == 3
    assert "stablehlo.while" not in elsewhere
    assert "stablehlo.while" in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for stride, padding, groups in ((1, 1, 1), (2, 0, 2)):
        image, kernel = arrays((9, 9, 8, 4), 3, 6, groups)
        x = torch.tensor(image.transpose(0, 3, 1, 2).copy(), requires_grad=True)
        k = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), requires_grad=True)
        y = torch.nn.functional.conv2d(x, k, stride=stride, padding=padding, groups=groups)
        y.backward(y.detach())
        wanted = (y.detach().permute(0, 2, 3, 1), x.grad.permute(0, 2, 3, 1), k.grad.permute(2, 3, 1, 0))
        close(with_gradients(image, kernel, stride, padding, groups), [one.numpy() for one in wanted])


def test_runs_side_by_side_in_a_scan():
    """Each run with its own kernel, or one kernel for all; the kernels change from step to step."""
    images, kernels = arrays((9, 6, 5, 3), 3, 4, 1, runs=(3,))

    @jax.jit
    def train(images, kernels):
        def step(kernels, _):
            output, to_image, to_kernel = jax.vmap(with_gradients, (0, 0, None, None, None))(images, kernels, 1, 1, 1)
            return kernels - jnp.float32(1e-3) * to_kernel, (output, to_image)

        return lax.scan(step, kernels, None, length=2)

    found, (outputs, to_images) = train(images, kernels)
    for run in range(3):
        kernel = kernels[run]
        for step in range(2):
            output, to_image, to_kernel = by_loop(images[run], kernel, 1, 1, 1)
            close((outputs[step, run], to_images[step, run]), (output, to_image))
            kernel = kernel - 1e-3 * to_kernel
        close((found[run],), (kernel,))
    shared = jax.jit(jax.vmap(with_gradients, (1, None, None, None, None), 1), static_argnums=(2, 3, 4))
    found = shared(np.moveaxis(images, 0, 1), kernels[0], 2, 1, 1)
    for run in range(3):
        close([one[:, run] for one in found], by_loop(images[run], kernels[0], 2, 1, 1))
    jaxpr = str(jax.make_jaxpr(shared, static_argnums=(2, 3, 4))(np.moveaxis(images, 0, 1), kernels[0], 2, 1, 1))
    assert "f32[1,27,6,5,3]" in jaxpr  # one kernel for all: 3 x 9 images of one run


def test_batch_split_over_a_mesh():
    shape, side, features, *how = CASES["same"]
    image, kernel = arrays((16, *shape[1:]), side, features, 1)
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    split = jax.device_put(image, NamedSharding(mesh, PartitionSpec("batch")))
    everywhere = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
    found = jax.jit(with_gradients, static_argnums=(2, 3, 4))(split, everywhere, *how)
    assert len(found[0].sharding.device_set) == 2
    close(found, by_loop(image, kernel, *how))


def test_bfloat16_sums_in_float32():
    # All positive, in 16 blocks of images: were their sum in bfloat16, it would lose as much in each.
    image, kernel = (jnp.asarray(np.abs(array), jnp.bfloat16) for array in arrays((128, 4, 4, 17), 3, 4, 1))
    found = with_gradients(image, kernel, 1, 1, 1)
    assert all(one.dtype == jnp.bfloat16 for one in found)
    close(found, by_loop(image, kernel, 1, 1, 1, found[0]), 2.0**-8)  # rounded once, to 8 bits


def test_forward_mode_and_second_derivatives():
    (image, kernel), (image_tangent, kernel_tangent) = arrays((3, 5, 6, 3), 3, 4, 1), arrays((3, 5, 6, 3), 3, 4, 1)
    image_tangent, kernel_tangent = image_tangent[::-1] + 1, kernel_tangent[::-1] - 1
    found, tangent = jax.jvp(
        lambda image, kernel: convolve(image, kernel, 2, 1), (image, kernel), (image_tangent, kernel_tangent)
    )
    bilinear = by_loop(image_tangent, kernel, 2, 1, 1)[0] + by_loop(image, kernel_tangent, 2, 1, 1)[0]
    close((found, tangent), (by_loop(image, kernel, 2, 1, 1)[0], bilinear))

    def own(image, kernel):
        padding, layout = ((1, 1), (1, 1)), ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(image, kernel, (2, 2), padding, dimension_numbers=layout)

    def products(function, outer):
        """Hessian of sum y^3 times a vector: forward over reverse, or reverse over reverse."""
        point, vector = (image, kernel), (image_tangent, kernel_tangent)
        gradient = jax.grad(lambda pair: (function(*pair) ** 3).sum())
        if outer == "forward":
            return jax.jvp(gradient, (point,), (vector,))[1]
        return jax.grad(lambda pair: sum((g * v).sum() for g, v in zip(gradient(pair), vector, strict=True)))(point)

    wanted = products(own, "forward")
    close(products(lambda image, kernel: convolve(image, kernel, 2, 1), "forward"), wanted)
    close(products(lambda image, kernel: convolve(image, kernel, 2, 1), "reverse"), wanted)


def test_module():
    image, _ = arrays((2, 6, 6, 4), 3, 6, 2)
    module = Convolution(6, 3, stride=2, padding=1, groups=2)
    variables = module.init(jax.random.key(0), image)
    params = variables["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 3, 2, 6), "bias": (6,)}
    params["bias"] = jnp.arange(6, dtype=jnp.float32)
    wanted = by_loop(image, params["kernel"], 2, 1, 2)[0] + np.arange(6)
    close((module.apply(variables, image),), (wanted,))
    assert module.apply(variables, image.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert set(Convolution(6, 3, use_bias=False).init(jax.random.key(0), image)["params"]) == {"kernel"}


def test_mistakes_are_named():
    image, kernel = arrays((2, 4, 5, 4), 7, 6, 2)
    with pytest.raises(UserError, match="4x5 pixels is too small for a 7x7 kernel with padding=1: at least 5x5"):
        convolve(image, kernel, 1, 1, 2)
    with pytest.raises(UserError, match="does not fit an image of 4 channels: it needs 3 x 2"):
        convolve(image, kernel, 1, 3, 3)
    with pytest.raises(UserError, match="stride=0"):
        convolve(image, kernel, 0, 3, 2)
    with pytest.raises(UserError, match="padding=-1"):
        convolve(image, kernel, 1, -1, 2)
    with pytest.raises(UserError, match="does not fit an image of 4 channels"):
        Convolution(6, 3, groups=3).init(jax.random.key(0), image)
    with pytest.raises(TypeError, match="uint8"):
        convolve(image.astype(np.uint8), kernel, 1, 3, 2)
