"""Is an image large enough for a network?"""

from jax import Array

from jaxdl.errors import UserError


def require_size(network: str, image: Array, minimum: int) -> None:
    """UserError unless image is [B, H, W, C] with H and W of at least `minimum` pixels."""
    if image.ndim != 4:
        raise UserError(f"{network} takes images [batch, height, width, channels], not {image.shape}")
    height, width = image.shape[1:3]
    if min(height, width) < minimum:
        raise UserError(f"{network} can't take images of {height}x{width}: at least {minimum}x{minimum}")
