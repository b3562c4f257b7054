"""Architectures: Flax Linen modules, one family a file. No losses, no data, no files.

A network's head is `classes` linear units: logits, or the numbers that a regression predicts (classes=1 for one).
Networks with batch norm are called with `train`, and keep the collection `batch_stats` beside `params`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["by_name", "deep_mlp", "dropout", "graph", "layers", "propagation", "tracing", "whole_graphs"],
    submod_attrs={
        "autoencoder": ["Autoencoder"],
        "batch_norm": ["batch_norm"],
        "by_name": ["named"],
        "calling": ["forward", "initialise"],
        "conv_vae": ["ConvVAE"],
        "convolution": ["Convolution", "convolve"],
        "deep_mlp": ["DeepMLP"],
        "densenet": ["CifarDenseNet", "DenseNet"],
        "initialisers": ["gain", "initialiser", "orthogonalised"],
        "lenet": ["LeNet5"],
        "locally_connected": ["LocallyConnected", "LocalNetwork", "connect_locally"],
        "mlp": ["MLP"],
        "pooling": ["average_pool", "max_pool", "min_pool", "sum_pool"],
        "receptive": ["receptive_fields"],
        "resnet": ["CifarResNet", "ResNet"],
        "small_cnn": ["DigitsCNN", "KerasCNN"],
        "units": ["unit"],
        "vae": ["VAE", "CategoricalVAE"],
    },
)
