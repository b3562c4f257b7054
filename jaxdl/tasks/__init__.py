"""What is minimised and what is measured: tasks are named tuples of pure functions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["densities", "inside", "nodes", "posteriors", "signals"],
    submod_attrs={
        "classification": ["classify"],
        "codes": ["active_units", "class_shares"],
        "corruption": ["corrupt"],
        "disentanglement": ["linear_score"],
        "elbo": ["bound", "elbo", "pixel_means"],
        "generation": ["generation"],
        "gradients": ["gradient_moments"],
        "graphs": ["Shapes", "classify_graphs"],
        "importance": ["log_likelihood"],
        "nodes": ["classify_nodes", "classify_sampled", "label_propagation"],
        "reconstruction": ["reconstruct"],
        "regression": ["regress"],
        "regularised": ["average_thinned", "classify_regularised"],
        "sparsity": ["kl_sparsity"],
        "steps_to_loss": ["steps_to_loss"],
        "strengths": ["NODE_RATES", "check_dropping", "check_rates", "check_strengths"],
        "task": ["Task"],
    },
)
