"""The user's ONNX model in onnxruntime, whatever batch size it is fixed to.

What onnxruntime has no kernel for (convolutions of float64, for one) is run by the evaluator that
comes with the standard.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from torch import Tensor

from vercomp.errors import ModelFileError

_DTYPES = {torch.float16: np.float16, torch.float32: np.float32, torch.float64: np.float64}


class OnnxSource:
    """Runs a model on batches.

    Args:
        model: The model, with its tensors in it.
        dtype: Precision of its input.
        batch: The batch size that it is fixed to, or None.
        location: The file, for messages.
        output: The result that holds the logits.
        unbatched: Whether it takes one input at a time, without a batch axis.

    Raises:
        ModelFileError: onnxruntime does not take the model, nor does the standard's evaluator.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        dtype: torch.dtype,
        batch: int | None,
        location: str,
        output: str,
        *,
        unbatched: bool = False,
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        # Its optimiser computes with quantised weights in int8, inputs included.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = torch.get_num_threads()
        self.dtype = dtype
        self.batch = batch
        self.location = location
        self.output = output
        self.unbatched = unbatched
        nameless = onnx.ModelProto()
        nameless.CopyFrom(model)
        for node in nameless.graph.node:
            node.name = ""  # onnxruntime wants unique ones, ONNX does not
        held = {tensor.name for tensor in model.graph.initializer}
        self.input = next(value.name for value in model.graph.input if value.name not in held)
        try:
            self.session: Any = ort.InferenceSession(
                nameless.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base but this
            if not isinstance(error, NoKernel):
                raise _failed("does not accept", error, location) from error
            try:
                self.session = ReferenceEvaluator(nameless)
            except Exception:
                raise _failed("does not accept", error, location) from error

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of a batch (B, *input shape), in the precision of x.

        Raises:
            ModelFileError: onnxruntime cannot run it.
        """
        array = x.detach().cpu().numpy().astype(_DTYPES[self.dtype])
        if self.unbatched:
            pieces = list(array)
        else:
            pieces = [array] if self.batch is None else self._pieces(array, self.batch)
        try:
            results = [self.session.run([self.output], {self.input: piece})[0] for piece in pieces]
        except Exception as error:
            raise _failed("cannot run", error, self.location) from error
        if self.unbatched:
            results = [np.reshape(result, (1, -1)) for result in results]
        return torch.from_numpy(np.concatenate(results)[: len(array)]).to(x.dtype)

    @staticmethod
    def _pieces(array: np.ndarray, batch: int) -> list[np.ndarray]:
        missing = -len(array) % batch
        padded = np.concatenate([array, array[-1:].repeat(missing, axis=0)])
        return np.split(padded, len(padded) // batch)


def _failed(what: str, error: Exception, location: str) -> ModelFileError:
    reason = str(error).strip().splitlines()[0]
    return ModelFileError(f"onnxruntime {what} the model ({reason})", location=location)
