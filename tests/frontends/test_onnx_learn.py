"""Models of scikit-learn: whole pipelines, their operators one by one, and labels on the side."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_models import agrees, ints, node, save, weights
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import vercomp
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError, UsageError
from vercomp.frontends.onnx import from_onnx

ML = "ai.onnx.ml"


def hidden(kind, **options):
    return kind(hidden_layer_sizes=(6,), max_iter=30, random_state=0, **options)


PIPELINES = {
    "classifier": (StandardScaler(), hidden(MLPClassifier, activation="tanh"), 3),
    "classifier of two": (StandardScaler(), hidden(MLPClassifier, activation="logistic"), 2),
    "classifier with relu": (MinMaxScaler(), hidden(MLPClassifier), 3),
    "regression": (StandardScaler(), hidden(MLPRegressor, activation="tanh"), 1),
    "logistic regression": (StandardScaler(), LogisticRegression(), 3),
    "logistic regression of two": (StandardScaler(), LogisticRegression(), 2),
    "linear regression": (StandardScaler(), LinearRegression(), 1),
    "ridge": (MinMaxScaler(), Ridge(), 1),
}


@pytest.mark.filterwarnings("ignore")  # scikit-learn says that it has not converged
@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("name", PIPELINES)
def test_a_whole_pipeline_compiles(tmp_path, name, zipmap):
    """Scaler and model, with labels and a map of probabilities on the side; no output is named."""
    skl2onnx = pytest.importorskip("skl2onnx", reason="a requirement of the tests alone")
    scaler, model, outputs = PIPELINES[name]
    x, y = load_iris(return_X_y=True)
    x, y = x.astype(np.float32), np.minimum(y, outputs - 1) if outputs > 1 else y * 1.5
    pipeline = make_pipeline(scaler, model).fit(x, y)
    options = {"zipmap": zipmap} if outputs > 1 else {}
    exported = skl2onnx.to_onnx(pipeline, x[:1], options={id(pipeline): options})
    path = tmp_path / "pipeline.onnx"
    path.write_bytes(exported.SerializeToString())
    net = vercomp.compile(path)
    assert net.network.input_shape == (4,)
    z = net.network(torch.tensor(x)).detach().numpy()
    if outputs == 1:
        assert np.allclose(z[:, 0], pipeline.predict(x), atol=1e-4)
        return
    assert (z.argmax(1) == pipeline.predict(x)).mean() > 0.99  # float32 ties
    found = net.certify(torch.tensor(x[::30]), torch.tensor(pipeline.predict(x[::30])))
    assert (found.radius > 0).all()


def attributes(**given):
    return {"domain": ML, **given}


OPERATORS = {
    "Scaler": [node("Scaler", ["x"], ["y"], **attributes(offset=[1.0, 2, 3], scale=[2.0, 3, 4]))],
    "Scaler of one number": [node("Scaler", ["x"], ["y"], **attributes(offset=[0.5], scale=[2.0]))],
    "LinearRegressor": [
        node(
            "LinearRegressor",
            ["x"],
            ["y"],
            **attributes(coefficients=[1.0, 2, 3, 4, 5, 6], intercepts=[0.1, 0.2], targets=2),
        )
    ],
    "LinearClassifier": [
        node(
            "LinearClassifier",
            ["x"],
            ["label", "y"],
            **attributes(
                coefficients=[1.0, -2, 3, 4, 5, -6],
                intercepts=[0.1, 0.2],
                classlabels_ints=[3, 5],
                post_transform="NONE",
            ),
        )
    ],
    "ArrayFeatureExtractor": [
        node("ArrayFeatureExtractor", ["x", "picks"], ["y"], domain=ML),
    ],
    "Imputer": [
        node(
            "Imputer",
            ["x"],
            ["y"],
            **attributes(imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan")),
        )
    ],
}


@pytest.mark.parametrize("name", OPERATORS)
def test_affine_operators(tmp_path, name):
    path = save(
        tmp_path / "m.onnx",
        OPERATORS[name],
        {"picks": ints(2, 0)},
        shape=("N", 3),
        domains=[ML],
        flat=False,
    )
    agrees(path)


@pytest.mark.parametrize(("rows", "kind"), [(1, "LOGISTIC"), (2, "LOGISTIC"), (2, "SOFTMAX")])
def test_a_linear_classifier_of_two_classes(tmp_path, rows, kind):
    """One row of coefficients, or two: the margins are those of onnxruntime's probabilities."""
    coefficients = [1.0, -2.0, 3.0] if rows == 1 else [-1.0, 2.0, -3.0, 1.0, -2.0, 3.0]
    intercepts = [0.25] if rows == 1 else [-0.25, 0.25]
    linear = node(
        "LinearClassifier",
        ["x"],
        ["label", "y"],
        **attributes(
            coefficients=coefficients,
            intercepts=intercepts,
            classlabels_ints=[0, 1],
            post_transform=kind,
        ),
    )
    path = save(tmp_path / "m.onnx", [linear], shape=("N", 3), domains=[ML], flat=False)
    net = vercomp.compile(path)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    (expected,) = ort.InferenceSession(path).run(["y"], {"x": x.numpy()})
    z = net.network(x).detach()
    assert (z.argmax(1).numpy() == expected.argmax(1)).all()


REFUSED = {
    "Binarizer": ({"threshold": 0.5}, "it is a step function: its value jumps"),
    "Normalizer": ({"norm": "L2"}, "it divides each input by its norm, which is not affine"),
    "LinearClassifier": (
        {
            "coefficients": [1.0, 2.0, 3.0],
            "intercepts": [0.5],
            "classlabels_ints": [0, 1],
            "post_transform": "SOFTMAX",
        },
        "one score for two classes is only supported as LOGISTIC",
    ),
    "Imputer": (
        {"imputed_value_floats": [1.0], "replaced_value_float": 0.0},
        "it replaces one value by another: its value jumps",
    ),
}


@pytest.mark.parametrize("operator", REFUSED)
def test_what_is_not_affine_says_why(tmp_path, operator):
    given, reason = REFUSED[operator]
    results = ["label", "h"] if operator == "LinearClassifier" else ["h"]
    nodes = [
        node(operator, ["x"], results, domain=ML, **given),
        node("MatMul", ["h", "w"], ["y"]),
    ]
    tensors = {"w": weights(3, 2)}
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 3), domains=[ML], flat=False)
    with pytest.raises(UnsupportedError, match=reason):
        vercomp.compile(path)


def two_outputs(path, *, strings=False):
    """Probabilities, and a label beside them that no rule covers."""
    names = np.array(["a", "b", "c"] if strings else [1, 2, 3])
    nodes = [
        node("Gemm", ["x", "w"], ["z"]),
        node("Softmax", ["z"], ["p"], axis=1),
        node("ArgMax", ["p"], ["am"], axis=1, keepdims=0),
        node("ArrayFeatureExtractor", ["names", "am"], ["label"], domain=ML),
        node("FusedThing", ["z"], ["other"], domain="com.example"),
    ]
    kind = TensorProto.STRING if strings else TensorProto.INT64
    outputs = [
        helper.make_tensor_value_info("label", kind, None),
        helper.make_tensor_value_info("p", TensorProto.FLOAT, ("N", 3)),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info("unused", TensorProto.FLOAT, (1,)),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 4)),
        ],
        outputs,
        [numpy_helper.from_array(weights(4, 3), "w"), numpy_helper.from_array(names, "names")],
    )
    opsets = [helper.make_opsetid(d, v) for d, v in (("", 17), (ML, 1), ("com.example", 1))]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("output", [None, "p"])
def test_what_the_output_does_not_depend_on_is_not_looked_at(tmp_path, output, strings):
    """Operators of nobody's standard, strings, a second input; labels cannot be meant."""
    path = two_outputs(tmp_path / "m.onnx", strings=strings)
    net = vercomp.compile(path, output=output)
    assert net.network.classes == 3


def test_a_label_that_is_asked_for_is_refused(tmp_path):
    path = two_outputs(tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="it is a step function: its value jumps"):
        vercomp.compile(path, output="label")
    with pytest.raises(UsageError, match="It has 'label', 'p'"):
        from_onnx(path, BUILTIN, "z")
