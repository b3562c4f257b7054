"""Architectures: Flax Linen modules, one family a file. No losses, no data, no files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"autoencoder": ["Autoencoder"], "initialisers": ["initialiser"], "mlp": ["MLP"], "units": ["unit"]},
)
