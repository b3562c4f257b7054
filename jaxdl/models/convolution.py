"""Two-dimensional convolution of images, NHWC and HWIO, that is as fast in a `lax.scan` on a CPU as outside it.

Convolution y = x * k is bilinear, and so are its transposes. The three are one family, closed under differentiation:
each is linear in both arguments, and its derivatives' transposes are the other two.

    output  (image, kernel)    image, kernel -> y           forward
    image'  (y', kernel)       the gradient for the image   transpose in the image
    kernel' (image, y')        the gradient for the kernel  transpose in the kernel

So forward mode, reverse mode and derivatives of any order work, inside jit, scan and vmap.

Which formula computes them is decided in ONE place, when a program is lowered for a platform (`_define`): the CPU has
rules of its own, every other platform gets `jax.lax.conv_general_dilated` and its transposes. `jax.default_backend()`
would be wrong for a program that is placed on the CPU of a machine with a GPU; here the platform is that of the
devices which will run it, whether one, several or a mesh, as with `jax.lax.platform_dependent`.

Why the CPU needs them: XLA's CPU backend is fast for a convolution in the forward's layout only (NHWC, HWIO, nothing
reversed). Outside a loop the gradients' convolutions are brought to that form, inside one they are not, and a step
takes 30 to 80 times as long. The rules below are all forward convolutions in that layout, or matrix products.

Milliseconds of processor time for the output and both gradients (for the kernel's alone where the image is the data),
one core of a loaded AMD EPYC (Zen 4), float32, jaxlib 0.10.2, PyTorch 2.13; medians of runs taken in turns:

    image, kernel                       here   here in a scan   XLA   XLA in a scan   PyTorch   its channels_last
    64x16x16x32,  3x3 -> 32               12               13    16             874        17                  12
    128x32x32x16, 3x3 -> 16               54               54    59           1,990        48                  22
    128x16x16x32, 3x3 -> 32               22               24    29           1,924        30                  19
    128x8x8x64,   3x3 -> 64               20               20    24           1,409        22                  17
    128x32x32x16, 3x3 -> 32, stride 2     20               21    46             957        27                  14
    128x32x32x16, 1x1 -> 32, stride 2    9.0              8.9    20             135        22                 5.5
    128x16x16x64, 1x1 -> 64               17               24    27             875        26                  11
    64x28x28x1,   3x3 -> 32, data        1.7              1.6   2.6              13       7.9                 1.8
    128x32x32x3,  3x3 -> 16, data        7.5              8.2    14             290       9.5                 4.9
    64x32x32x1,   5x5 -> 6, data         3.6              3.4   7.8              27       2.5                 1.6

In groups the kernel's gradient is one small product per pixel: 8 times PyTorch's time, 1/9 of XLA's in a scan at 64
channels in 4 groups; depthwise 9 times PyTorch's and 1/29 of XLA's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxdl.errors import UserError

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_BLOCK = 8  # images that the gradient for the kernel takes at a time: 2 to 4 times the speed of all at once
_PIXELS = 1024  # of the images that `_by_rows` takes at a time
_COLOURS, _FEW = 3, 16  # channels of the image, and of the output, up to which `_by_rows` is the faster one


class _Geometry(NamedTuple):
    """All that is static: with it, the shapes of two of (image, kernel, output) give that of the third."""

    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]  # rows above and below, columns to the left and right
    groups: int
    image: tuple[int, int]  # height, width
    kernel: tuple[int, int]

    @property
    def output(self) -> tuple[int, ...]:
        """Height and width of the output."""
        sides = zip(self.image, self.kernel, self.padding, strict=True)
        return tuple((image + sum(padding) - kernel) // self.stride + 1 for image, kernel, padding in sides)


def convolve(image: Array, kernel: Array, stride: int = 1, padding: int | tuple = 0, groups: int = 1) -> Array:
    """y[b,i,j,f] = sum_{u,v,c} x[b, s i + u - top, s j + v - left, c] k[u,v,c,f], x = 0 outside the image.

    image [B, H, W, C], kernel [kh, kw, C / groups, F] -> [B, H', W', F], H' = floor((H + top + bottom - kh) / s) + 1.
    padding: pixels of zeros on every side, or ((top, bottom), (left, right))
    groups: output channels [g F/groups, (g+1) F/groups) see the input channels [g C/groups, (g+1) C/groups) only

    Both of one floating dtype, which the result has too; sums are in float32 at least. UserError when the image is
    smaller than the kernel or channels do not match.
    """
    if image.dtype != kernel.dtype or not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"image and kernel are of one floating dtype: {image.dtype} and {kernel.dtype} are not")
    pairs = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    geometry = _Geometry(stride, tuple(map(tuple, pairs)), groups, image.shape[1:3], kernel.shape[:2])
    if stride < 1 or any(pixels < 0 for pair in geometry.padding for pixels in pair):
        raise UserError(f"stride={stride}, padding={padding} is not possible: a stride is at least 1, a padding 0")
    channels, features = image.shape[3], kernel.shape[3]
    if groups < 1 or channels != groups * kernel.shape[2] or features % groups:
        raise UserError(
            f"a kernel of {kernel.shape[2]} -> {features} channels in groups={groups} does not fit an image of "
            f"{channels} channels: it needs {groups} x {kernel.shape[2]}, and {features} must be a multiple of {groups}"
        )
    if min(geometry.output) < 1:
        least = [side - sum(pair) for side, pair in zip(geometry.kernel, geometry.padding, strict=True)]
        raise UserError(
            f"an image of {image.shape[1]}x{image.shape[2]} pixels is too small for a {kernel.shape[0]}x"
            f"{kernel.shape[1]} kernel with padding={padding}: at least {least[0]}x{least[1]} are needed"
        )
    return _output.bind(image[None], kernel[None], geometry=geometry)[0]


class Convolution(nn.Module):
    """y = x * kernel + bias; parameters `kernel` [kernel, kernel, C / groups, features] and `bias` [features].

    Computes in the dtype of the image. stride, padding and groups as in `convolve`.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int | tuple = 0
    groups: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image [B, H, W, C] -> [B, H', W', features]."""
        shape = (self.kernel, self.kernel, image.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        output = convolve(image, kernel.astype(image.dtype), self.stride, self.padding, self.groups)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            output = output + bias.astype(image.dtype)[None, None, None, :]
        return output


# One run on the CPU. All take and return the arrays of one run, without the leading axis [R] of the primitives.


def _output_on_cpu(image: Array, kernel: Array, geometry: _Geometry) -> Array:
    return _by_shape(image, kernel, geometry.padding, geometry.stride, geometry.groups)


def _image_gradient_on_cpu(gradient: Array, kernel: Array, geometry: _Geometry) -> Array:
    """x'[p] = sum_u y'[(p - u) / s] k[u] where s divides p - u; p counts the padded rows (or columns), u the kernel's.

    With p = s q + r these are s^2 images x'_r[q] = sum_m y'[q - m] k[s m + r], each a convolution of stride 1 with the
    flipped and transposed part r of the kernel; interleaved they are x'. No product with a zero in between.
    """
    stride, groups = geometry.stride, geometry.groups
    batch, _, _, features = gradient.shape
    channels = kernel.shape[2] * groups
    # First and last q on each axis: of the first and the last pixel of the image.
    spans = [
        (before // stride, (before + side - 1) // stride)
        for side, (before, _) in zip(geometry.image, geometry.padding, strict=True)
    ]
    high, wide = (last - first + 1 for first, last in spans)

    def part(row: int, column: int) -> Array:
        one = kernel[row::stride, column::stride]
        if 0 in one.shape:  # a stride larger than the kernel: pixels that no output sees
            return jnp.zeros((batch, high, wide, channels), gradient.dtype)
        split = one[::-1, ::-1].reshape(*one.shape[:3], groups, features // groups)
        # [h, w, C/g, g, F/g] -> [h, w, F/g, g, C/g] -> [h, w, F/g, C]
        turned = split.transpose(0, 1, 4, 3, 2).reshape(*one.shape[:2], features // groups, channels)
        padding = [
            (side - 1 - first, last - (output - 1))
            for side, (first, last), output in zip(one.shape[:2], spans, geometry.output, strict=True)
        ]
        return _by_shape(gradient, turned, padding, 1, groups)

    rows = [jnp.stack([part(row, column) for column in range(stride)], 3) for row in range(stride)]
    # [B, high, s, wide, s, C] -> [B, s high, s wide, C]
    whole = jnp.stack(rows, 2).reshape(batch, stride * high, stride * wide, channels)
    (top, left) = (before - stride * first for (first, _), (before, _) in zip(spans, geometry.padding, strict=True))
    return whole[:, top : top + geometry.image[0], left : left + geometry.image[1]]


def _kernel_gradient_on_cpu(image: Array, gradient: Array, geometry: _Geometry) -> Array:
    """k'[u,v,c,f] = sum_{b,i,j} x[b, s i + u, s j + v, c] y'[b,i,j,f]: a convolution of x with y' as the kernel.

    The channels of x are its images, the batch its channels: [C, H, W, B] * [H', W', B, F] -> [C, kh, kw, F].
    In blocks of images, so that the patches that XLA makes stay in the cache.
    """
    if geometry.groups > 1:
        return _grouped_kernel_gradient(image, gradient, geometry)
    stride = geometry.stride
    sides = zip(geometry.image, geometry.kernel, geometry.padding, geometry.output, strict=True)
    padding = [(before, kernel + stride * (output - 1) - side - before) for side, kernel, (before, _), output in sides]

    def block(image: Array, gradient: Array) -> Array:
        # Without the barriers XLA merges the transpositions into the convolution, whose layout is then slow.
        turned = lax.optimization_barrier((image.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)))
        kernel = lax.optimization_barrier(_forward(*turned, padding, apart=stride))
        return kernel.transpose(1, 2, 0, 3)

    whole = image.shape[0] // _BLOCK * _BLOCK
    if whole <= _BLOCK:
        return block(image, gradient)

    def blocks(array: Array) -> Array:  # [B, ...] -> [B / block, block, ...]
        return array[:whole].reshape(-1, _BLOCK, *array.shape[1:])

    start = block(image[whole:], gradient[whole:])  # of an empty batch it is 0
    total, _ = lax.scan(lambda total, pair: (total + block(*pair), None), start, (blocks(image), blocks(gradient)))
    return total


def _grouped_kernel_gradient(image: Array, gradient: Array, geometry: _Geometry) -> Array:
    """The same in groups: for each pixel of the kernel, one batched matrix product over the groups."""
    stride, groups, (high, wide) = geometry.stride, geometry.groups, geometry.output
    padded = jnp.pad(image, ((0, 0), *geometry.padding, (0, 0)))
    count = gradient.shape[0] * high * wide
    to = gradient.reshape(count, groups, -1)  # [B, H', W', F] -> [n, g, F/g]

    def pixel(row: int, column: int) -> Array:
        seen = padded[
            :, row : row + stride * (high - 1) + 1 : stride, column : column + stride * (wide - 1) + 1 : stride
        ]
        product = jnp.einsum("ngc,ngf->cgf", seen.reshape(count, groups, -1), to)
        return product.reshape(product.shape[0], -1)  # [C/g, g, F/g] -> [C/g, F]

    rows, columns = geometry.kernel
    return jnp.stack([jnp.stack([pixel(row, column) for column in range(columns)]) for row in range(rows)])


def _by_shape(image: Array, kernel: Array, padding: Sequence[tuple[int, int]], stride: int, groups: int) -> Array:
    """A convolution by the formula that suits its shapes.

    On an image of at most 3 channels XLA spends more on its patches than on the products. Output and gradient for the
    kernel, over XLA's time outside a scan: .60 by rows against .8-1.0 for 128x32x32x3, 3x3 -> 16; .46 against .86 for
    64x32x32x1, 5x5 -> 6. With more outputs the products of the rows grow too large (the output alone of 64x28x28x1,
    3x3 -> 32: 2.0 ms against .7), with 16 channels in the image it makes no difference.
    """
    if stride == groups == 1 and kernel.shape[2] <= _COLOURS and kernel.shape[3] <= _FEW and kernel.shape[0] > 1:
        return _by_rows(image, kernel, padding)
    return _forward(image, kernel, padding, stride, groups=groups)


def _by_rows(image: Array, kernel: Array, padding: Sequence[tuple[int, int]]) -> Array:
    """y[i] = sum_u z[i+u, u], z[r, u] = (kw pixels of row r, side by side) @ k[u]: one product for all rows u.

    Half as much to copy as in whole patches, in blocks of images that stay in the cache.
    """
    rows, columns, channels, features = kernel.shape
    (top, bottom), (left, right) = padding
    high, wide = image.shape[1] + top + bottom - rows + 1, image.shape[2] + left + right - columns + 1
    # [kh, kw, C, F] -> [kw, C, kh, F] -> [kw C, kh F]
    matrix = kernel.transpose(1, 2, 0, 3).reshape(columns * channels, rows * features)

    def block(image: Array) -> Array:
        padded = lax.pad(image, jnp.zeros((), image.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))
        beside = jnp.concatenate([padded[:, :, column : column + wide] for column in range(columns)], -1)
        product = beside.reshape(-1, columns * channels) @ matrix  # [n (H + top + bottom) W', kh F]
        product = product.reshape(*beside.shape[:3], rows, features)
        return sum(product[:, row : row + high, :, row] for row in range(1, rows)) + product[:, :high, :, 0]

    batch = image.shape[0]
    most = max(1, _PIXELS // (high * wide))
    size = next((size for size in range(min(most, batch), 0, -1) if batch % size == 0), 1)  # a divisor of the batch
    result = lax.map(block, image.reshape(-1, size, *image.shape[1:]))  # [B, ...] -> [B / size, size, ...]
    return result.reshape(batch, high, wide, features)


def _forward(
    image: Array, kernel: Array, padding: Sequence[tuple[int, int]], stride: int = 1, *, apart: int = 1, groups: int = 1
) -> Array:
    """JAX's convolution. padding may be negative; apart: the distance of the kernel's pixels."""
    crops = [(max(0, -before), max(0, -after)) for before, after in padding]
    if any(map(any, crops)):
        (top, bottom), (left, right) = crops
        image = image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]
    return lax.conv_general_dilated(
        image, kernel, (stride, stride), [(max(0, before), max(0, after)) for before, after in padding],
        rhs_dilation=(apart, apart), dimension_numbers=_LAYOUT, feature_group_count=groups,
    )  # fmt: skip


# One run elsewhere: JAX's own.


def _output_elsewhere(image: Array, kernel: Array, geometry: _Geometry) -> Array:
    return _forward(image, kernel, geometry.padding, geometry.stride, groups=geometry.groups)


def _image_gradient_elsewhere(gradient: Array, kernel: Array, geometry: _Geometry) -> Array:
    shape = (gradient.shape[0], *geometry.image, kernel.shape[2] * geometry.groups)
    image = jax.ShapeDtypeStruct(shape, gradient.dtype)
    return jax.linear_transpose(lambda image: _output_elsewhere(image, kernel, geometry), image)(gradient)[0]


def _kernel_gradient_elsewhere(image: Array, gradient: Array, geometry: _Geometry) -> Array:
    shape = (*geometry.kernel, image.shape[3] // geometry.groups, gradient.shape[3])
    kernel = jax.ShapeDtypeStruct(shape, image.dtype)
    return jax.linear_transpose(lambda kernel: _output_elsewhere(image, kernel, geometry), kernel)(gradient)[0]


# The primitives. Arrays have a leading axis [R] of runs, each with a kernel of its own; 1 where nothing is vmapped.


def _define(name: str, on_cpu: Callable, elsewhere: Callable, has_kernel: bool) -> Primitive:
    """The primitive (first, second, geometry) that `on_cpu` and `elsewhere` compute for one run.

    has_kernel: the second argument is a kernel, the first a batch
    """

    def runs_on_cpu(first: Array, second: Array, geometry: _Geometry) -> Array:
        wide = jnp.float64 if first.dtype == jnp.float64 else jnp.float32

        def run(first: Array, second: Array) -> Array:
            return on_cpu(first.astype(wide), second.astype(wide), geometry).astype(first.dtype)

        if first.shape[0] == 1:
            return run(first[0], second[0])[None]
        return lax.map(lambda pair: run(*pair), (first, second))  # XLA's own vmap: a grouped convolution, slow

    def runs_elsewhere(first: Array, second: Array, geometry: _Geometry) -> Array:
        if first.shape[0] == 1:
            return elsewhere(first[0], second[0], geometry)[None]
        return jax.vmap(partial(elsewhere, geometry=geometry))(first, second)

    def batched(arrays: tuple, axes: tuple, geometry: _Geometry) -> tuple[Array, int]:
        first, second = arrays
        size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
        if has_kernel and axes[1] is None:  # one kernel for all: more images
            first = jnp.moveaxis(first, axes[0], 1)  # [R, N, B, ...]
            folded = first.reshape(first.shape[0], -1, *first.shape[3:])  # [R, N B, ...]
            result = primitive.bind(folded, second, geometry=geometry)
            return result.reshape(result.shape[0], size, -1, *result.shape[2:]), 1

        def runs(array: Array, axis: int | None) -> Array:  # [N, R, ...] -> [N R, ...]
            front = (
                jnp.broadcast_to(array[None], (size, *array.shape)) if axis is None else jnp.moveaxis(array, axis, 0)
            )
            return front.reshape(-1, *front.shape[2:])

        result = primitive.bind(runs(first, axes[0]), runs(second, axes[1]), geometry=geometry)
        return result.reshape(size, -1, *result.shape[1:]), 0

    primitive = Primitive(name)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="geometry"))
    primitive.def_abstract_eval(
        lambda first, second, geometry: jax.core.ShapedArray(
            jax.eval_shape(
                partial(runs_elsewhere, geometry=geometry),
                jax.ShapeDtypeStruct(first.shape, first.dtype),
                jax.ShapeDtypeStruct(second.shape, second.dtype),
            ).shape,
            first.dtype,
        )
    )
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(runs_elsewhere, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(runs_on_cpu, multiple_results=False), platform="cpu")
    return primitive


_output = _define("convolution", _output_on_cpu, _output_elsewhere, True)
_image_gradient = _define("convolution_image_gradient", _image_gradient_on_cpu, _image_gradient_elsewhere, True)
_kernel_gradient = _define("convolution_kernel_gradient", _kernel_gradient_on_cpu, _kernel_gradient_elsewhere, False)

# The transposes: of the gradient for the result, with the argument that is not asked for.
ad.defbilinear(
    _output,
    lambda gradient, image, kernel, geometry: _image_gradient.bind(gradient, kernel, geometry=geometry),
    lambda gradient, image, kernel, geometry: _kernel_gradient.bind(image, gradient, geometry=geometry),
)
ad.defbilinear(
    _image_gradient,  # of (y', kernel); its result is an image
    lambda gradient, output, kernel, geometry: _output.bind(gradient, kernel, geometry=geometry),
    lambda gradient, output, kernel, geometry: _kernel_gradient.bind(gradient, output, geometry=geometry),
)
ad.defbilinear(
    _kernel_gradient,  # of (image, y'); its result is a kernel
    lambda gradient, image, output, geometry: _image_gradient.bind(output, gradient, geometry=geometry),
    lambda gradient, image, output, geometry: _output.bind(image, gradient, geometry=geometry),
)
