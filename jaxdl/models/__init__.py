"""Architectures: Flax Linen modules, one family a file. No losses, no data, no files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["by_name"],
    submod_attrs={
        "autoencoder": ["Autoencoder"],
        "by_name": ["named"],
        "conv_vae": ["ConvVAE"],
        "initialisers": ["initialiser"],
        "mlp": ["MLP"],
        "units": ["unit"],
        "vae": ["VAE", "CategoricalVAE"],
    },
)
