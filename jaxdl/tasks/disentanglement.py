"""How disentangled codes are: the linear classifier's score of Higgins et al. 2017 (ICLR, beta-VAE), section 3."""

import numpy as np

from jaxdl.errors import UserError


def linear_score(codes: np.ndarray, factors: np.ndarray, seed: int, votes: int = 2000, pairs: int = 64) -> float:
    """How often a linear classifier tells, from codes alone, which factor pairs of images share: 1 / F to 1.

    A vote is about one factor y. Its `pairs` (the paper's L) pairs of images share the value of y and differ at random
    in the others; its feature is z_diff = 1/L sum_l |z_1l - z_2l|, float64 [Z]. Three quarters of the votes train a
    multinomial logistic regression on standardised features to predict y; the score is its accuracy on the others. The
    more pairs, the kinder it is to codes that mix factors: random rotations of five factors scored 0.3 with one pair,
    0.56 with 8, 0.91 with 64 and 0.99 with 200.

    codes: means of q(z|x), [N, Z]; factors: numbers of the factors' values, integers [N, F]
    seed: of the pairs that are drawn; the score depends on nothing else

    Returns nan for codes that are not finite, as those of a diverged run. Raises UserError for fewer than 4 F votes, no
    pairs, and a value that no two images share.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, factors = np.asarray(codes, np.float64), np.asarray(factors)
    count = factors.shape[1]
    if votes < 4 * count:
        raise UserError(f"votes={votes} is not possible with {count} factors: valid is {4 * count} or more")
    if pairs < 1:
        raise UserError(f"pairs={pairs} is not possible: valid is 1 or more")
    # The paper draws y uniformly. As the pairs of each vote are drawn anew, taking turns differs only in that each
    # factor has its share of the votes exactly.
    shared = np.arange(votes) % count
    features = difference(codes, *draw_pairs(factors, shared, pairs, np.random.default_rng(seed)))
    if not np.isfinite(features).all():
        return float("nan")
    training = votes - votes // 4
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(features[:training], shared[:training])
    return float(classifier.score(features[training:], shared[training:]))


def draw_pairs(
    factors: np.ndarray, shared: np.ndarray, pairs: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of images that share the value of a factor, and never are the same image: int64 [votes, pairs] each.

    The first is any image, the second any other one with its value of that factor.

    factors: integers [N, F]; shared: the factor of each vote, integers [votes]

    Raises UserError for a value that only one image has.
    """
    first = random.integers(len(factors), size=(len(shared), pairs))
    second = np.empty_like(first)
    for factor, values in enumerate(factors.T):
        _, value, sizes = np.unique(values, return_inverse=True, return_counts=True)
        if sizes.min() < 2:
            raise UserError(
                f"{len(factors)} images are too few to draw pairs: value {values[sizes[value] < 2][0]} of factor "
                f"{factor} has one image only"
            )
        by_value = np.argsort(value, kind="stable")  # the images, those with the same value next to each other
        place = np.empty_like(by_value)  # of each image among all of its value
        place[by_value] = np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        own = first[shared == factor]
        size = sizes[value[own]]
        ahead = random.integers(1, size)  # going round among the images of one value, the image itself left out
        second[shared == factor] = by_value[(np.cumsum(sizes) - sizes)[value[own]] + (place[own] + ahead) % size]
    return first, second


def difference(codes: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """z_diff of each vote: the mean over its pairs of |z_1 - z_2|, float64 [votes, Z].

    codes: float64 [N, Z]; first, second: rows of codes, [votes, pairs]
    """
    return np.abs(codes[first] - codes[second]).mean(axis=1)
