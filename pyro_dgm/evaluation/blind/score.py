"""How well judges told real rows from generated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...checks import described, shown
from ...extras import need

SAID = ("real", "generated")
LEVEL = 0.95


@dataclass(frozen=True)
class BlindScore:
    """How often judges were right; one half where they cannot tell samples from data.

    Attributes:
        accuracy: the share of right answers.
        lower: the lower end of its interval of 95 %.
        upper: the upper end.
        p_value: the probability of an accuracy as far from one half if answers do not depend on what pictures are, exact.
        real_taken_for_real: the share of real pictures that are taken for real.
        generated_taken_for_real: the share of generated ones that are.
        right: the number of right answers.
        answers: the number of answers.
        judges: the number of judges.
    """

    accuracy: float
    lower: float
    upper: float
    p_value: float
    real_taken_for_real: float | None
    generated_taken_for_real: float | None
    right: int
    answers: int
    judges: int

    def __str__(self) -> str:
        shares = (("real", self.real_taken_for_real), ("generated", self.generated_taken_for_real))
        taken = ", ".join(f"{100 * share:.0f} % of {name} ones" for name, share in shares if share is not None)
        return (
            f"{self.right} of {self.answers} answers right: accuracy {self.accuracy:.3f} [{self.lower:.3f}, {self.upper:.3f}], "
            f"p-value against chance {self.p_value:.3g}; taken for real: {taken}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON holds them."""
        return asdict(self)


def score_answers(key: Mapping[str, Any], *answers: Mapping[str, Any]) -> BlindScore:
    r"""The score of one judge's answers, or of several judges' on one kit.

    Every picture was real by a fair coin $t_i = \pm 1$. With $s_i$ answers "real" less "generated", the p-value is the
    probability of $|\sum_i t_i s_i|$ or more over new coins. For one judge it is that of the binomial test; for several it
    takes into account that they saw the same pictures. The interval is Clopper and Pearson's for as many answers as there are
    pictures that were judged: exact for one judge, and wide enough for several.

    Args:
        key: the key of the kit, as ``blind_test`` returns it.
        answers: what the page saves, one a judge: ``{"kit": …, "answers": {"0": "real", …}}``. Pictures without an answer
            are left out.

    Raises:
        ValueError: a key or answers of another form, answers to another kit, or none.

    Example:
        >>> score = score_answers({"kit": "a", "real": [True, False]}, {"kit": "a", "answers": {"0": "real", "1": "real"}})
        >>> score.accuracy, score.generated_taken_for_real
        (0.5, 1.0)
    """
    need("score_answers", "sklearn")
    from scipy.stats import beta

    truth = _truth(key)
    said = [_said(one, key["kit"], len(truth), number) for number, one in enumerate(answers, start=1)]
    if not any((one != 0).any() for one in said):
        raise ValueError("there are no answers; judge at least one picture, and save the answers")
    table = np.stack(said)
    signs = np.where(truth, 1, -1)
    given = table != 0
    right, count = int((table == signs)[given].sum()), int(given.sum())
    accuracy, pictures = right / count, int(given.any(0).sum())
    hits, tail = accuracy * pictures, (1 - LEVEL) / 2
    lower = float(beta.ppf(tail, hits, pictures - hits + 1)) if hits > 0 else 0.0
    upper = float(beta.ppf(1 - tail, hits + 1, pictures - hits)) if hits < pictures else 1.0
    shares = [
        float((table[:, kind] == 1).sum() / n) if (n := given[:, kind].sum()) else None for kind in (truth, ~truth)
    ]
    p_value = _by_coins(table.sum(0), int((table.sum(0) * signs).sum()))
    return BlindScore(accuracy, lower, upper, p_value, shares[0], shares[1], right, count, len(said))


def _truth(key: Mapping[str, Any]) -> np.ndarray:
    """Booleans of a key."""
    real = key.get("real") if isinstance(key, Mapping) else None
    if not isinstance(real, Sequence) or not real or not all(isinstance(one, bool) for one in real) or "kit" not in key:
        raise ValueError(
            f"key got {described(key)}; expected the key of a kit, {{'kit': name, 'real': [true, false, …]}}"
        )
    return np.array(real)


def _said(answers: Any, kit: str, count: int, number: int) -> np.ndarray:
    """Answers by picture: 1 for real, -1 for generated, 0 for none."""
    entries = answers.get("answers") if isinstance(answers, Mapping) else None
    if not isinstance(entries, Mapping):
        raise ValueError(
            f"answers {number} are {described(answers)}; expected what the page saves, {{'kit': name, 'answers': {{'0': 'real', "
            "…}}"
        )
    if answers.get("kit") != kit:
        raise ValueError(f"answers {number} are to the kit {shown(answers.get('kit'))}; the key is that of {kit!r}")
    found = np.zeros(count, int)
    for picture, said in entries.items():
        if not (isinstance(picture, str) and picture.isdecimal() and int(picture) < count) or said not in SAID:
            raise ValueError(
                f"answers {number} say {shown(said)} to the picture {shown(picture)}; expected real or generated, to pictures 0 "
                f"to {count - 1}"
            )
        found[int(picture)] = 1 if said == "real" else -1
    return found


def _by_coins(weights: np.ndarray, observed: int) -> float:
    r"""$P(|\sum_i \pm w_i| \ge |\text{observed}|)$ with independent fair signs."""
    law = np.ones(1)  # of sums from -(len - 1) / 2 to (len - 1) / 2
    for weight in np.abs(weights[weights != 0]):
        step = np.zeros(2 * int(weight) + 1)
        step[[0, -1]] = 0.5
        law = np.convolve(law, step)
    sums = np.abs(np.arange(len(law)) - (len(law) - 1) // 2)
    return min(float(law[sums >= abs(observed)].sum()), 1.0)
