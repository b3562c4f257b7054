"""What makes a comparison of many runs: variants, tuning, run folders, results, tables, figures, the command line."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["claims", "figures"],
    submod_attrs={
        "command": ["Action", "Study"],
        "config": ["Config"],
        "published": ["Published"],
        "results": ["Results"],
        "runs": ["Done", "Runs", "divergence"],
    },
)
