"""What a network can take: depths that it has, images that are large enough."""

from collections.abc import Iterable

from jax import Array

from jaxdl.errors import UserError


def require_size(network: str, image: Array, minimum: int) -> None:
    """UserError unless image is [B, H, W, C] with H and W of at least `minimum` pixels."""
    if image.ndim != 4:
        raise UserError(f"{network} takes images [batch, height, width, channels], not {image.shape}")
    height, width = image.shape[1:3]
    if min(height, width) < minimum:
        raise UserError(f"{network} can't take images of {height}x{width}: at least {minimum}x{minimum}")


def require_depth(network: str, depth: int, depths: Iterable[int]) -> None:
    """UserError, naming the nearest, for a depth that a network of fixed depths does not have."""
    depths = list(depths)
    if depth not in depths:
        nearest = min(depths, key=lambda each: abs(each - depth))
        valid = ", ".join(map(str, depths))
        raise UserError(f"depth={depth} is not possible: {network} has {valid} layers; nearest: {nearest}")
