"""Every number of a training, checked when it is written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from vercomp.errors import UsageError
from vercomp.train.method import NORMS, Method, Number
from vercomp.train.methods import METHODS

TARGETS = ("largest", "certificate", "runner-up")
PRECISIONS = ("highest", "high", "medium")
INITIAL = ("given", "intervals")

BY_DATA = -1
"""Stands for a number that follows the size of the data: see :meth:`Recipe.fitted`."""

BY_METHOD = -1.0
"""Stands for a number that follows the method."""

USUAL: Mapping[str, float] = {"radius_ramp": 1 / 3, "held": 0.0}
"""What such a number is where the method does not say otherwise."""

_FOLLOWING = ("epochs", "batch_size", "learning_rate", "shift_chance")
_POSITIVE = ("radius", "learning_rate", "temperature")
_NOT_NEGATIVE = ("penalty", "weight_decay", "clean_weight", "trades_beta")
_SHARES = ("radius_ramp", "shift_chance", "penalty_ramp", "held", "averaging", "exponent")
_AT_LEAST_ONE = ("epochs", "batch_size", "validation", "evaluate_every", "pairs_per_call")
_AT_LEAST_ZERO = ("attack_steps", "shift", "seed")


@dataclass(frozen=True)
class Recipe:
    """What a training is made of.

    Args:
        method: The name of a method in :data:`vercomp.train.methods.METHODS`, which says what its
            loss is.
        radius: ρ, of the balls of attacks and bounds, and of the certified accuracy that selects
            the network.
        norm: Of those balls: ``l2``, ``linf``, ``l1``, if the method is for it.
        box: (lo, hi): inputs outside of it do not count; None: all of the balls count.
        penalty: γ, of the mean curvature bound, in methods that evaluate it.
        epochs: Passes over the training data; −1: by their size (:meth:`fitted`).
        batch_size: Inputs a step, over all processes together; −1: by the size of the data.
        learning_rate: Of Adam; rises over the first steps and falls to zero along a cosine; −1: by
            the number of steps.
        held: Share of the training up to whose end the learning rate does not fall; −1: by the
            method, mostly 0.
        weight_decay: Of Adam, decoupled (Loshchilov and Hutter 2019).
        attack_steps: Gradient evaluations of an attack.
        target: The class an attack of ``crt`` or ``dual`` aims at. ``largest``: at every step the
            largest competitor; ``certificate``: the class whose tangent falls lowest where it
            begins, kept; ``runner-up``: the second largest logit there, kept (the paper's).
        radius_ramp: Share of the training over which the radius grows linearly from 0; −1: by the
            method, mostly a third.
        penalty_ramp: The same for γ.
        warm_start: Attacks begin at the perturbation found for that input an epoch ago.
        exponent: q of the generalised cross entropy (1 − p^q)/q (Zhang and Sabuncu 2018), grown
            along with the radius; 0: cross entropy.
        temperature: T, by which the logits (or bounds) are divided in the cross entropy. 2 to 4 is
            better than 1 for certificates in large balls.
        clean_weight: Of the loss at the inputs themselves, beside that at attacked ones, in ``pgd``
            and ``crt``.
        trades_beta: β of TRADES.
        shift: Augmentation: random shifts of images by up to so many pixels.
        shift_chance: The probability that an axis is moved at all; −1: 2N/(2N + 1), as if no move
            were one of the 2N + 1 that are equally likely. Less is better where shifts underfit.
        averaging: Decay of an exponential moving average of the weights, which is then what is
            validated and kept; 0: none.
        validation: Inputs held out of the training data to select the network by; at most a fifth
            of the data.
        evaluate_every: Epochs between evaluations on them; the last epoch always ends with one.
        pairs_per_call: Pairs of classes whose curvature bound a step evaluates.
        precision: Of float32 products in training steps
            (:func:`torch.set_float32_matmul_precision`): ``highest``, ``high``, ``medium``.
            Certificates are computed in float64 whatever it says.
        initial: The weights that a training begins with: ``given``, the model's; ``intervals``, new
            ones for which interval bounds neither grow nor shrink from layer to layer.
        seed: Of the split, the order, the augmentation and the attacks.
        numbers: The method's own, by name; those that are left out have its defaults.

    Raises:
        UsageError: A value out of its range.
    """

    method: str = "crt"
    radius: float = 0.5
    norm: str = "l2"
    box: tuple[float, float] | None = None
    penalty: float = 0.01
    epochs: int = BY_DATA
    batch_size: int = BY_DATA
    learning_rate: float = BY_DATA
    held: float = BY_METHOD
    weight_decay: float = 0.0
    attack_steps: int = 3
    target: str = "largest"
    radius_ramp: float = BY_METHOD
    penalty_ramp: float = 0.0
    warm_start: bool = True
    exponent: float = 0.0
    temperature: float = 1.0
    clean_weight: float = 0.0
    trades_beta: float = 6.0
    shift: int = 0
    shift_chance: float = BY_DATA
    averaging: float = 0.0
    validation: int = 1000
    evaluate_every: int = 5
    pairs_per_call: int = 16
    precision: str = "highest"
    initial: str = "given"
    seed: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, words in (
            ("method", METHODS),
            ("norm", NORMS),
            ("target", TARGETS),
            ("precision", PRECISIONS),
            ("initial", INITIAL),
        ):
            if getattr(self, name) not in words:
                raise _wrong(name, getattr(self, name), f"one of {', '.join(words)}")
        if self.norm not in self._row.norms:
            raise UsageError(
                f"method {self.method!r} is not for {self.norm} balls",
                remedy=f"Choose {' or '.join(self._row.norms)}, or another method: "
                f"{', '.join(name for name, row in METHODS.items() if self.norm in row.norms)}",
            )
        for name, usual in USUAL.items():
            if getattr(self, name) == BY_METHOD:
                object.__setattr__(self, name, self._row.defaults.get(name, usual))
        self._check_types()
        self._check_numbers()
        self._check_ranges()

    def _check_types(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type == "int" and (isinstance(value, bool) or not isinstance(value, int)):
                raise _wrong(each.name, value, "a whole number")
            if each.type == "bool" and not isinstance(value, bool):
                raise _wrong(each.name, value, "true or false")
            if each.type == "float" and not _is_finite(value):
                raise _wrong(each.name, value, "a finite number")

    def _check_numbers(self) -> None:
        """The box, and the method's own numbers."""
        if self.box is not None:
            ends = tuple(self.box)
            if len(ends) != 2 or not all(map(_is_finite, ends)) or not ends[0] < ends[1]:
                raise _wrong("box", self.box, "two finite numbers, the first below the second")
            object.__setattr__(self, "box", ends)
        known = {number.name: number for number in self._row.numbers}
        for name, value in self.numbers.items():
            if name not in known:
                raise UsageError(
                    f"method {self.method!r} has no number {name!r}",
                    remedy=f"It has {', '.join(known)}" if known else "It has none of its own",
                )
            _check_number(known[name], value)

    def _check_ranges(self) -> None:
        for names, low, high in (
            (_NOT_NEGATIVE, 0, math.inf),
            (_SHARES, 0, 1),
            (_AT_LEAST_ONE, 1, math.inf),
            (_AT_LEAST_ZERO, 0, math.inf),
        ):
            for name in names:
                value = getattr(self, name)
                if not (low <= value <= high or _follows(name, value)):
                    wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
                    raise _wrong(name, value, wanted)
        for name in _POSITIVE:
            if getattr(self, name) <= 0 and not _follows(name, getattr(self, name)):
                raise _wrong(name, getattr(self, name), "positive")
        if self.averaging == 1:
            raise _wrong("averaging", self.averaging, "below 1: the average would never move")

    def fitted(self, count: int) -> Recipe:
        """The recipe with every number that follows the size of the data.

        Batches are the power of two that makes 32 or more steps an epoch of the data, from 8 to
        256; epochs are 20, or more, up to 200, until there are 2,000 steps; the learning rate is
        0.001 for 4,700 steps or more (20 epochs of MNIST in batches of 256), and grows as the root
        of what is missing of them, up to 0.005.

        Args:
            count: Inputs to train on.
        """
        batch, epochs, rate = self.batch_size, self.epochs, self.learning_rate
        if batch == BY_DATA:
            batch = 2 ** max(3, min(8, int(math.log2(max(count / 32, 1)))))
        steps = max(count // batch, 1)
        if epochs == BY_DATA:
            epochs = max(20, min(200, math.ceil(2000 / steps)))
        if rate == BY_DATA:
            rate = round(1e-3 * min(5.0, max(1.0, math.sqrt(4700 / (epochs * steps)))), 6)
        return replace(self, batch_size=batch, epochs=epochs, learning_rate=rate)

    def number(self, name: str) -> float:
        """The value of one of the method's own numbers."""
        default = {number.name: number.default for number in self._row.numbers}[name]
        return self.numbers.get(name, default)

    @property
    def keeps_last(self) -> bool:
        """Whether the network of the last epoch is kept, whatever its certificates."""
        return self._row.last

    @property
    def certified_by(self) -> tuple[str, ...]:
        """The methods of certification that select the network and only decide; all where none."""
        return self._row.certified_by

    @property
    def propagated(self) -> bool:
        """Whether the method sends regions through the network."""
        return self._row.propagated

    @property
    def _row(self) -> Method:
        return METHODS[self.method]

    @property
    def bounded(self) -> bool:
        """Whether the curvature bound is evaluated at every step, as a penalty or for attacks."""
        return self._row.bounded

    @property
    def attacked(self) -> bool:
        """Whether the inputs of a step are attacked."""
        return self._row.attacked

    @property
    def resumes_attacks(self) -> bool:
        """Whether attacks begin at the perturbations of an epoch ago."""
        return self.warm_start and self._row.warm

    @property
    def gamma(self) -> float:
        """γ as the method applies it: the penalty, or 0 without a bound."""
        return self.penalty if self.bounded else 0.0


def _follows(name: str, value: object) -> bool:
    """Whether a number follows the size of the data."""
    return name in _FOLLOWING and value == BY_DATA


def _check_number(number: Number, value: object) -> None:
    if number.whole and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong(number.name, value, "a whole number")
    if not _is_finite(value):
        raise _wrong(number.name, value, "a finite number")
    if not number.low <= value <= number.high:  # type: ignore[operator]
        wanted = f"between {number.low:g} and {number.high:g}"
        raise _wrong(
            number.name, value, wanted if number.high < math.inf else f"at least {number.low:g}"
        )


def _is_finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"{name.replace('_', ' ')} must be {wanted}, not {value!r}")
