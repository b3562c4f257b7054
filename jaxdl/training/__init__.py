"""How a task is trained: state, step, advance, fit, optimizers, checkpoints, devices, hosts. Knows no task or model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["checkpoints", "devices", "hosts", "schedules", "stopping"],
    submod_attrs={
        "duration": ["duration"],
        "feed": ["Feed"],
        "fitting": ["Fitted", "Plan", "fit", "pace", "plan"],
        "optimizers": ["optimizer"],
        "settings": ["Progress", "Settings"],
        "step": ["State", "make_advance", "make_init", "make_step"],
    },
)
