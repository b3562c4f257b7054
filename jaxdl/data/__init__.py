"""Named data sets as sources: splits that never overlap, an order that is a pure function of (seed, epoch)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["order", "tfds"], submod_attrs={"loading": ["load"], "source": ["Arrays", "Source"]}
)
