"""The user's PyTorch model, looked at without leaving a trace on it."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

import vercomp
from vercomp.errors import UnsupportedError, UsageError, VercompError
from vercomp.frontends.torch_outputs import choose
from vercomp.ir.linear_maps import Shape

_TORCH, _VERCOMP = (Path(file).resolve().parent for file in (torch.__file__, vercomp.__file__))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every module is in its own mode again.

    The flag is set directly: a module's own ``eval()`` may do anything.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def location_of(error: BaseException) -> str | None:
    """Where in the user's own source an exception arose: the innermost frame that is theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _is_theirs(frame.filename)]
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else None


def location_in(stack_trace: str | None) -> str:
    """The same, from the text that torch.export keeps with every operator."""
    place = ""
    for line in (stack_trace or "").splitlines():
        parts = line.strip().split('"')
        if len(parts) == 3 and parts[0] == "File " and _is_theirs(parts[1]):
            number = parts[2].removeprefix(", line ").split(",")[0]
            place = f"{Path(parts[1]).name}:{number}"
    return place


@lru_cache(maxsize=1024)
def _is_theirs(file: str) -> bool:
    """Whether source is neither torch's, nor vercomp's, nor made up (``<string>``)."""
    path = Path(file).resolve()
    return not (file.startswith("<") or any(map(path.is_relative_to, (_TORCH, _VERCOMP))))


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def elsewhere(tensors: Iterable[object]) -> bool:
    """Whether some of the tensors are on a device of their own."""
    return any(isinstance(t, Tensor) and t.device.type not in ("cpu", "meta") for t in tensors)


def on_cpu(model: nn.Module) -> nn.Module:
    """The model, or where some of it is on another device a copy of it on the CPU.

    Raises:
        UsageError: It cannot be copied.
    """
    if not elsewhere(_tensors(model)):
        return model
    try:
        return copied(model)
    except Exception as error:  # whatever the user's objects raise
        raise UsageError(
            f"the model cannot be copied to the CPU ({first_line(error)})",
            node=type(model).__name__,
            remedy="Move it there first: model.cpu()",
        ) from error


def copied(model: nn.Module) -> nn.Module:
    """A copy on the CPU, tensor by tensor: nothing is allocated on the model's own device."""
    memo: dict[int, object] = {}
    for tensor in _tensors(model):
        held = tensor.detach().to("cpu", copy=True)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(held, tensor.requires_grad) if is_parameter else held
    return copy.deepcopy(model, memo)


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes of a module."""
    plain = (value for module in model.modules() for value in vars(module).values())
    loose = (value for value in plain if isinstance(value, Tensor))
    return [*model.parameters(), *model.buffers(), *loose]


class TorchSource:
    """Runs a model in evaluation mode on copies of its buffers.

    Args:
        model: The user's model, on the CPU.
        input_shape: Shape of one input.
        output: Which of several results the logits are.
    """

    def __init__(
        self, model: nn.Module, input_shape: Shape, output: str | int | None = None
    ) -> None:
        self.model = model
        self.input_shape = input_shape
        self.output = output
        tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
        self.dtype = tensors[0].dtype if tensors else torch.float32
        self.batch: int | None = None
        self._calls = 0
        if any(tensor.device.type == "meta" for tensor in tensors):
            raise UnsupportedError(
                "its parameters are on the meta device and have no values",
                node=type(model).__name__,
                remedy="Load the weights first",
            )
        self._refuse_signature()

    def example(self, batch: int) -> Tensor:
        """A batch of inputs in the model's own precision."""
        return torch.full((batch, *self.input_shape), 0.5, dtype=self.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of a batch (B, *input shape).

        Half precision is computed as such; float64 where the batch is float64 and the model is in
        single precision.
        """
        dtype = x.dtype if self.dtype in (torch.float32, torch.float64) else self.dtype
        state = self._state(dtype)
        pieces = [x] if self.batch is None else torch.split(x, self.batch)
        results = []
        self._calls += 1
        with evaluating(self.model):
            # Another seed at every call, or a random model would repeat itself unnoticed.
            torch.default_generator.manual_seed(self._calls)
            for piece in pieces:
                full = piece
                if self.batch is not None and len(piece) < self.batch:
                    full = torch.cat(
                        [piece, piece[-1:].expand(self.batch - len(piece), *piece.shape[1:])]
                    )
                result = torch.func.functional_call(
                    self.model, state, (full.to(dtype, copy=True),), tie_weights=False
                )
                logits = self._tensor(result)
                if logits.ndim == 0 or len(logits) != len(full):
                    raise ValueError("the first dimension of its result is not the batch")
                results.append(logits[: len(piece)])
        return torch.cat(results).detach().to(x.dtype)

    def _state(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Copies of all tensors, under every name of a tensor but one name of a module.

        Those in the model's own precision are converted; what is of another type beside them (a
        half precision table, a mask) stays as it is.

        ``functional_call`` ties weights by setting each name of a module that has two: what it
        puts back last is then its own tensor, and the model has lost its parameter.
        """
        copies: dict[int, Tensor] = {}
        state = {}
        for path, module in self.model.named_modules():
            for named in (module.named_parameters, module.named_buffers):
                for name, tensor in named(path, recurse=False, remove_duplicate=False):
                    kind = dtype if tensor.dtype == self.dtype else tensor.dtype
                    if id(tensor) not in copies:
                        copies[id(tensor)] = tensor.detach().to(kind).clone()
                    state[name] = copies[id(tensor)]
        return state

    def settle_batch(self) -> None:
        """Find out whether the model takes any batch, and run it once.

        Raises:
            UsageError: It cannot take inputs of the given shape.
        """
        last: Exception | None = None
        for fixed, sizes in ((None, (3, 2)), (1, (1,))):
            self.batch = fixed
            try:
                for size in sizes:
                    self(self.example(size))
            except VercompError:
                raise
            except Exception as error:
                last = last or error
            else:
                return
        shape = "(batch" + "".join(f", {size}" for size in self.input_shape) + ")"
        assert last is not None  # noqa: S101 - every way through the loop but `return` sets it
        raise UsageError(
            f"the model does not run on inputs of shape {shape}: {first_line(last)}",
            node=type(self.model).__name__,
            location=location_of(last),
            remedy="Give the shape of one input, without the batch, as input_shape",
        ) from last

    def _tensor(self, result: object) -> Tensor:
        chosen = choose(result, self.output, Tensor, type(self.model).__name__)
        assert isinstance(chosen, Tensor)  # noqa: S101 - that is what was asked for
        return chosen

    def _refuse_signature(self) -> None:
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        required = [
            name
            for name, parameter in inspect.signature(self.model.forward).parameters.items()
            if parameter.kind in positional and parameter.default is inspect.Parameter.empty
        ]
        if len(required) > 1:
            raise UnsupportedError(
                f"the model takes {len(required)} inputs ({', '.join(required)})",
                node=type(self.model).__name__,
                remedy="Wrap it in a module that takes one",
            )
