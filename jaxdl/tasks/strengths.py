"""Which strengths of corruption, sparsity and dropout make sense. Needs no jax, so that mistakes are told at once."""

from collections.abc import Sequence

from jaxdl.errors import UserError

UNBOUNDED_UNITS = ("relu", "linear")
RATES = ("input_dropout", "hidden_dropout", "input_gaussian", "hidden_gaussian", "dropconnect")
NODE_RATES = ("input_dropout", "hidden_dropout", "attention_dropout")  # of `classify_nodes`


def check_strengths(hyper: dict[str, float], unit: str) -> None:
    """UserError for strengths that `reconstruct` has no meaning for.

    Those are shares and targets outside [0, 1], and a sparsity penalty on units whose activation is unbounded.
    """
    if hyper["sparsity_weight"] > 0 and unit in UNBOUNDED_UNITS:
        raise UserError(
            f"hyper.sparsity_weight={hyper['sparsity_weight']} is not possible with {unit} units: the KL penalty "
            "compares shares of the time, as sigmoid and tanh units give them"
        )
    for name in ("masking", "salt_pepper", "sparsity_target"):
        if not 0 <= hyper[name] <= 1:
            raise UserError(f"hyper.{name}={hyper[name]} is not possible: valid is 0 to 1")
    if hyper["sparsity_weight"] > 0 and hyper["sparsity_target"] in (0, 1):
        target = hyper["sparsity_target"]
        raise UserError(f"hyper.sparsity_target={target} is not possible with a penalty: valid is between 0 and 1")


def check_dropping(hyper: dict[str, float], names: Sequence[str]) -> None:
    """UserError for rates of dropping outside [0, 1)."""
    for name in names:
        if not 0 <= hyper[name] < 1:
            raise UserError(f"hyper.{name}={hyper[name]} is not possible: a rate of dropping is at least 0 and below 1")


def check_rates(hyper: dict[str, float], unit: str) -> None:
    """UserError for strengths that `classify_regularised` has no meaning for.

    Those are rates outside [0, 1), sparsity targets outside (0, 1), and a sparsity penalty on linear units.
    """
    check_dropping(hyper, RATES)
    if hyper["sparsity_weight"] > 0 and not 0 < hyper["sparsity_target"] < 1:
        target = hyper["sparsity_target"]
        raise UserError(f"hyper.sparsity_target={target} is not possible with a penalty: valid is between 0 and 1")
    if hyper["sparsity_weight"] > 0 and unit == "linear":
        weight = hyper["sparsity_weight"]
        raise UserError(f"hyper.sparsity_weight={weight} is not possible with linear units: they are never off")
