"""What is left to chance by methods that prove nothing, but hold with some probability."""

from __future__ import annotations

from typing import NamedTuple


class Chance(NamedTuple):
    """What a probable method may risk, and where its random numbers begin.

    Args:
        failure: δ: for each input, the probability with which the certificate may be false.
        seed: Of the method's random numbers.
    """

    failure: float
    seed: int

    def of_trial(self, number: int) -> Chance:
        """The chance of one of many trials, 1, 2, …, so that all of them together have this one.

        The shares δ/(n(n + 1)) add up to δ, however many trials there are, and whichever comes
        after which results. Each trial has random numbers of its own.
        """
        share = self.failure / (number * (number + 1))
        return Chance(share, self.seed * MOST_TRIALS + number)


MOST_TRIALS = 2**20
"""Seeds of trials are told apart up to so many."""
