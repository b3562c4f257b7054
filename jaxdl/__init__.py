"""jaxdl: the comparisons that made deep learning, reproduced in JAX. Rooms load when they are first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["batch", "data", "errors", "models", "study", "tasks", "training"]
)
