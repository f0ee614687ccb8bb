"""What can be smoothed: whatever gives logits for a batch of inputs, compiled or not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from vercomp.errors import ModelFileError, UsageError

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork

_BATCH = 64
"""Inputs that onnxruntime is given at a time: nobody knows what it takes for one."""

Numbers = Sequence[float] | float | None


@dataclass(frozen=True)
class Classifier:
    """A network as smoothing sees it: its logits, and nothing of what is inside.

    Args:
        name: What results call it.
        logits: Inputs (B, *input_shape), in its type and on its device, to logits.
        input_shape: Of one input.
        classes: The number of classes; of one logit z there are two, zero and z.
        dtype: The type that it computes in.
        device: Where it computes.
        identity: A hash of its weights and of what is known of its architecture.
    """

    name: str
    logits: Callable[[Tensor], Tensor]
    input_shape: tuple[int, ...]
    classes: int
    dtype: torch.dtype
    device: torch.device
    identity: str

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, classes) at inputs x, without gradients."""
        with torch.no_grad():
            return scores(self.logits(x))


def scores(logits: Tensor) -> Tensor:
    """Logits (B, C) as they are; of one logit z, zero and z."""
    logits = logits.flatten(1)
    if logits.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits), logits], 1)
    return logits


def of_network(network: CompiledNetwork) -> Classifier:
    """A compiled network; a softmax at its end is left out, as for all its certificates."""
    own = network.network
    files = network.files
    digest = hashlib.sha256(own.fingerprint().encode())
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return Classifier(
        name=network.name,
        logits=own.logits,
        input_shape=tuple(own.input_shape),
        classes=own.classes,
        dtype=own.dtype,
        device=own.device,
        identity=digest.hexdigest(),
    )


def of_module(
    module: nn.Module, input_shape: Sequence[int], mean: Numbers = None, std: Numbers = None
) -> Classifier:
    """Any torch module that gives logits, in evaluation mode.

    Args:
        module: The module; its results are (B, C), or (B,) of one logit.
        input_shape: Of one input.
        mean: Of a normalisation in front of it: a number, or one a channel.
        std: Its standard deviation.

    Raises:
        UsageError: It gives no logits for a batch of such inputs.
    """
    module.eval()
    tensors = [*module.parameters(), *module.buffers()]
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    shape = tuple(input_shape)
    center = _channels(0.0 if mean is None else mean, shape, like)
    scale = _channels(1.0 if std is None else std, shape, like)

    def logits(x: Tensor) -> Tensor:
        found: Tensor = module((x - center) / scale)
        return found

    digest = hashlib.sha256(f"{module!r} {mean} {std}".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    name, identity = type(module).__name__, digest.hexdigest()
    return _tried(logits, name, shape, like.dtype, like.device, identity)


def of_onnx(path: Path | str, mean: Numbers = None, std: Numbers = None) -> Classifier:
    """An ONNX file that onnxruntime runs, whatever its operators are; its first input and output.

    Args:
        path: The file; the first axis of its input is that of the batch.
        mean: Of a normalisation in front of it: a number, or one a channel.
        std: Its standard deviation.

    Raises:
        ModelFileError: onnxruntime cannot read it.
        UsageError: Its input has axes of unknown length behind the first, or is no float32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise ModelFileError(f"onnxruntime cannot read it: {error}", location=str(path)) from error
    given = session.get_inputs()[0]
    batch, *shape = given.shape
    if given.type != "tensor(float)" or not all(isinstance(n, int) and n > 0 for n in shape):
        raise UsageError(
            f"its input {given.name!r} is {given.type} with the shape {given.shape}",
            location=str(path),
            remedy="Noise is added to float32 inputs whose sizes are fixed but for the batch's",
        )
    single = isinstance(batch, int) and batch == 1
    like = torch.empty(0)
    center = _channels(0.0 if mean is None else mean, tuple(shape), like)
    scale = _channels(1.0 if std is None else std, tuple(shape), like)

    def logits(x: Tensor) -> Tensor:
        values = ((x.detach() - center) / scale).numpy()
        size = 1 if single else _BATCH
        parts = [values[start : start + size] for start in range(0, len(values), size)]
        found = [session.run(None, {given.name: part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(found))

    identity = hashlib.sha256(Path(path).read_bytes() + f" {mean} {std}".encode()).hexdigest()
    name = Path(path).stem
    return _tried(logits, name, tuple(shape), torch.float32, torch.device("cpu"), identity)


def _channels(values: Sequence[float] | float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A number for all entries, or one for each channel, the first axis of an input."""
    numbers = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    if numbers.ndim == 0:
        return numbers
    if len(numbers) not in (1, shape[0]):
        raise UsageError(f"{len(numbers)} numbers for the {shape[0]} channels of {shape}")
    return numbers.reshape(-1, *(1,) * (len(shape) - 1))


def _tried(
    logits: Callable[[Tensor], Tensor],
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    identity: str,
) -> Classifier:
    """The classifier, once it has given logits for two inputs."""
    try:
        with torch.no_grad():
            found = logits(torch.zeros(2, *shape, dtype=dtype, device=device))
        count = scores(found).shape[1]
        fits = len(found) == 2 and found.is_floating_point()
    except Exception as error:  # whatever the user's own code raises
        raise UsageError(
            f"it cannot be run on inputs of the shape {shape}: {type(error).__name__}: {error}",
            node=name,
        ) from error
    if not fits:
        raise UsageError(f"its result for two inputs has the shape {tuple(found.shape)}", node=name)
    return Classifier(name, logits, shape, count, dtype, device, identity)
