"""Named data sets as sources: splits that never overlap, an order that is a pure function of (seed, epoch)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "augmentation",
        "cache",
        "contents",
        "downloads",
        "graph_batches",
        "graph_families",
        "graph_files",
        "graph_sets",
        "graphs",
        "loading",
        "members",
        "neighbours",
        "normalisation",
        "order",
        "planetoid",
        "splits",
        "streaming",
        "tfds",
    ],
    submod_attrs={
        "augmentation": ["augmented"],
        "binarisation": ["binarised"],
        "graph_sets": ["graph_source", "node_source"],
        "graphs": ["Graph"],
        "loading": ["SETS", "load"],
        "source": ["Arrays", "Rows", "Source"],
    },
)
