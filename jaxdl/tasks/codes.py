"""What the codes of a whole split tell: which units are used, and whether classes differ in them. On the host."""

import numpy as np

ACTIVE = 0.01  # Burda et al. 2016, arXiv 1509.00519, section 5.2: variance over images of a unit's mean


def active_units(mean: np.ndarray) -> int:
    """How many units' posterior means [N, Z] vary by more than ACTIVE over images."""
    return int((np.var(np.asarray(mean, np.float64), axis=0) > ACTIVE).sum())


def class_shares(codes: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """The shares of variance that classes explain: of codes [N, Z], and of their distances from the class's median.

    share = sum_c N_c |m_c - m|^2 / sum_n |z_n - m|^2 over all units, eta squared of an analysis of variance; of the
    distances it is that of Brown & Forsythe's test (1974) for equal spreads. label: [N]
    """
    codes = np.asarray(codes, np.float64)
    classes = np.unique(label)
    medians = np.stack([np.median(codes[label == each], axis=0) for each in classes])
    distances = np.abs(codes - medians[np.searchsorted(classes, label)])
    return _share(codes, label), _share(distances, label)


def _share(values: np.ndarray, label: np.ndarray) -> float:
    total = np.square(values - values.mean(axis=0)).sum()
    groups = [values[label == each] for each in np.unique(label)]
    between = sum(len(group) * np.square(group.mean(axis=0) - values.mean(axis=0)).sum() for group in groups)
    return float(between / total) if total > 0 else 0.0
