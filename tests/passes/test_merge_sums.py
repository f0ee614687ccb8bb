"""Sums and concatenations: what merges, what stays, what nodes are called afterwards."""

from __future__ import annotations

import pytest
import torch

from passes.merge_affine import AFFINE_CHAINS_MERGED, MergeAffine
from vercomp.activations import BUILTIN
from vercomp.core.maps.monomials import Monomial
from vercomp.ir.axis_maps import AlongAxis
from vercomp.ir.convolutions import AveragePool, Convolution, TransposedConvolution, Window
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Offset, Term
from vercomp.ir.linear_maps import Dense, LinearMap, Parameter, Scale, Shape, compose, identity
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate
from vercomp.ir.rewrite import concatenated_axis
from vercomp.ir.selections import Pad, Slice
from vercomp.pass_manager import run_passes

TANH = BUILTIN.build("tanh")
IMAGE: Shape = (2, 4, 4)
SAME = Window.of((3, 3), pads=((1, 1), (1, 1)))


def parameter(name: str, *shape: int) -> Parameter:
    generator = torch.Generator().manual_seed(len(name))
    return Parameter(name, torch.randn(shape, generator=generator, dtype=torch.float64))


def affine(name: str, *terms: tuple[LinearMap, str], bias: str = "") -> Affine:
    shape = terms[0][0].out_shape
    offsets = (Offset(identity(shape), parameter(bias, *shape)),) if bias else ()
    return Affine(name, shape, tuple(Term(*term) for term in terms), offsets)


def convolution(name: str, source: Shape = IMAGE, channels: int = 2) -> LinearMap:
    return Convolution(source, parameter(name, channels, source[0], 3, 3), SAME)


def tanh(name: str, parent: str, shape: Shape = IMAGE) -> Activate:
    return Activate(name, shape, parent, TANH)


def concatenation(name: str, *parts: tuple[Shape, str], axis: int = 0) -> Affine:
    length = sum(shape[axis] for shape, _ in parts)
    terms, start = [], 0
    for shape, parent in parts:
        pads = [(0, 0)] * len(shape)
        pads[axis] = (start, length - start - shape[axis])
        terms.append((Pad(shape, tuple(pads)), parent))
        start += shape[axis]
    return affine(name, *terms)


def merge(*nodes: Node) -> Graph:
    """The merged graph, once it is known to compute the same and to have nothing left to merge."""
    graph = Graph(nodes, nodes[-1].name)
    result = run_passes(graph, [MergeAffine()])
    x = torch.randn(3, *graph.input.shape, dtype=torch.float64)
    before, after = evaluate(graph, x)[graph.output], evaluate(result, x)[result.output]
    assert torch.allclose(before, after, atol=1e-10)
    assert MergeAffine().run(result) is result
    return result


def text(*nodes: Node) -> list[str]:
    return [
        line
        for line in to_text(merge(*nodes)).splitlines()
        if line.startswith(("affine", "output"))
    ]


def stream(blocks: int, head: LinearMap) -> list[Node]:
    """h ← h + conv₂ tanh(conv₁ h), as front ends translate it."""
    nodes: list[Node] = [Input("x", IMAGE), affine("stem", (convolution("S"), "x"))]
    value = "stem"
    for k in range(blocks):
        nodes += [
            tanh(f"a{k}", value),
            affine(f"one{k}", (convolution(f"U{k}"), f"a{k}")),
            tanh(f"b{k}", f"one{k}"),
            affine(f"two{k}", (convolution(f"V{k}"), f"b{k}"), bias=f"bias{k}"),
            affine(f"add{k}", (identity(IMAGE), value), (identity(IMAGE), f"two{k}")),
        ]
        value = f"add{k}"
    return [*nodes, affine("head", (head, value))]


def test_the_sums_of_a_residual_stream_stay() -> None:
    head = compose(AveragePool(IMAGE, Window.of((4, 4), (4, 4))), identity(IMAGE))
    kernel = "3×3, padding 1"
    assert text(*stream(2, head)) == [
        f"affine stem : 2×4×4 = conv[S; {kernel}] · x",
        f"affine one0 : 2×4×4 = conv[U0; {kernel}] · a0",
        f"affine two0 : 2×4×4 = conv[S; {kernel}] · x + conv[V0; {kernel}] · b0 + bias0",
        f"affine one1 : 2×4×4 = conv[U1; {kernel}] · a1",
        f"affine two1 : 2×4×4 = two0 + conv[V1; {kernel}] · b1 + bias1",
        "affine head : 2×1×1 = mean(4×4, stride 4) · two1",
        "output head",
    ]


def test_a_stream_has_as_many_terms_as_the_source() -> None:
    def terms(blocks: int) -> int:
        graph = merge(*stream(blocks, convolution("H")))
        return sum(len(node.terms) for node in graph.affine())

    assert terms(9) - terms(6) == terms(6) - terms(3)


def test_a_sum_merges_into_its_only_reader_where_that_costs_nothing() -> None:
    std = Scale(IMAGE, parameter("std", 2), divide=True, view=(2, 1, 1))
    nodes = [
        Input("x", IMAGE),
        affine("one", (convolution("A"), "x")),
        tanh("a", "one"),
        affine("two", (convolution("B"), "a")),
        affine("shortcut", (convolution("C"), "x")),
        affine("add", (identity(IMAGE), "two"), (identity(IMAGE), "shortcut")),
    ]
    kernel = "3×3, padding 1"
    assert text(*nodes, affine("norm", (std, "add"), bias="beta"), tanh("b", "norm"))[1:] == [
        f"affine norm : 2×4×4 = scale[1/std] · conv[B; {kernel}] · a"
        f" + scale[1/std] · conv[C; {kernel}] · x + beta",
        "output b",
    ]
    # A convolution would be done twice.
    assert text(*nodes, affine("last", (convolution("D"), "add"))) == [
        f"affine one : 2×4×4 = conv[A; {kernel}] · x",
        f"affine add : 2×4×4 = conv[B; {kernel}] · a + conv[C; {kernel}] · x",
        f"affine last : 2×4×4 = conv[D; {kernel}] · add",
        "output last",
    ]


def test_sums_of_sums_are_one() -> None:
    nodes = [
        Input("x", IMAGE),
        *(tanh(f"a{k}", "x") for k in range(4)),
        affine("s1", (identity(IMAGE), "a0"), (identity(IMAGE), "a1")),
        affine("s2", (identity(IMAGE), "s1"), (identity(IMAGE), "a2")),
        affine("s3", (identity(IMAGE), "s2"), (identity(IMAGE), "a3")),
    ]
    (line, _) = text(*nodes)
    assert line.endswith("= a0 + a1 + a2 + a3")


def test_terms_that_read_one_node_are_one_term() -> None:
    kernel = "3×3, padding 1"
    assert text(
        Input("x", IMAGE),
        affine("one", (convolution("A"), "x")),
        affine("add", (identity(IMAGE), "x"), (identity(IMAGE), "one"), bias="b"),
        affine("two", (convolution("B"), "add")),
    ) == [
        f"affine two : 2×4×4 = conv[B; {kernel}] · (identity + conv[A; {kernel}]) · x"
        f" + conv[B; {kernel}] · b",
        "output two",
    ]


def test_a_row_of_blocks_without_activations_stays_small() -> None:
    nodes: list[Node] = [Input("x", (3,))]
    value = "x"
    for k in range(30):
        nodes.append(affine(f"w{k}", (Dense(parameter(f"W{k}", 3, 3)), value)))
        small = Scale((3,), Parameter(f"s{k}", torch.full((1,), 0.1, dtype=torch.float64)))
        nodes.append(affine(f"add{k}", (identity((3,)), value), (small, f"w{k}")))
        value = f"add{k}"
    graph = merge(*nodes)
    assert len(graph.nodes) == 2
    assert str(graph.nodes[1].terms[0].map).count("dense") == 30


def dense_block() -> list[Node]:
    """x, then twice: what there is, and a convolution of it beside it."""
    return [
        Input("x", IMAGE),
        affine("one", (convolution("A"), "x")),
        tanh("a", "one"),
        concatenation("cat1", (IMAGE, "x"), (IMAGE, "a")),
        affine("two", (convolution("B", (4, 4, 4)), "cat1")),
        tanh("b", "two"),
        concatenation("cat2", ((4, 4, 4), "cat1"), (IMAGE, "b")),
        affine("three", (convolution("C", (6, 4, 4)), "cat2")),
    ]


def test_a_concatenation_stays_one() -> None:
    graph = merge(*dense_block())
    kernel = "3×3, padding 1"
    assert to_text(graph).splitlines()[-2:] == [
        f"affine three : 2×4×4 = conv[C; {kernel}] · cat2",
        "output three",
    ]
    assert [concatenated_axis(node) for node in graph.affine()] == [None, 0, None, 0, None]


def test_concatenations_that_nothing_else_reads_are_one() -> None:
    graph = merge(
        Input("x", IMAGE),
        tanh("a", "x"),
        tanh("b", "x"),
        concatenation("cat1", (IMAGE, "x"), (IMAGE, "a")),
        concatenation("cat2", ((4, 4, 4), "cat1"), (IMAGE, "b")),
        affine("out", (convolution("C", (6, 4, 4)), "cat2")),
    )
    cat, _ = graph.affine()
    assert (cat.name, cat.parents, concatenated_axis(cat)) == ("cat2", ("x", "a", "b"), 0)


def test_a_concatenation_takes_up_layers_and_keeps_its_axis() -> None:
    """Not a sum, which would have to be computed once for every place; padding an image is one."""
    around = Pad(IMAGE, ((0, 0), (1, 1), (1, 1)))
    wide = around.out_shape
    graph = merge(
        Input("x", IMAGE),
        tanh("a", "x"),
        affine("padded", (around, "x")),
        affine("sum", (around, "a"), (around, "x")),
        affine("conv", (convolution("A", wide), "padded")),
        concatenation("cat", (wide, "conv"), (wide, "sum"), (wide, "padded")),
        tanh("b", "cat", (6, 6, 6)),
    )
    cat = graph.node("conv")  # named after the layer that it has taken up
    assert isinstance(cat, Affine)
    assert cat.parents == ("x", "sum", "x")
    assert concatenated_axis(cat) == 0


def test_concatenations_along_other_axes_do_not_merge() -> None:
    graph = merge(
        Input("x", IMAGE),
        tanh("a", "x"),
        concatenation("rows", (IMAGE, "x"), (IMAGE, "a"), axis=1),
        tanh("c", "rows", (2, 8, 4)),
        concatenation("cat", ((2, 8, 4), "rows"), ((2, 8, 4), "c")),
        tanh("d", "cat", (4, 8, 4)),
        concatenation("last", ((4, 8, 4), "cat"), ((4, 8, 4), "d"), axis=2),
        tanh("b", "last", (4, 8, 8)),
    )
    assert [concatenated_axis(node) for node in graph.affine()] == [1, 0, 2]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (convolution("A"), IMAGE),
        (TransposedConvolution(IMAGE, IMAGE, parameter("A", 2, 2, 3, 3), SAME), IMAGE),
        (AlongAxis(IMAGE, 2, parameter("A", 4, 4)), IMAGE),
    ],
)
def test_a_layer_followed_by_a_batch_norm_keeps_its_name(layer: LinearMap, shape: Shape) -> None:
    norm = Scale(shape, parameter("gamma", 2), view=(2, 1, 1))
    graph = merge(
        Input("x", IMAGE),
        affine("conv1", (layer, "x")),
        affine("bn1", (norm, "conv1"), bias="beta"),
        tanh("a", "bn1"),
    )
    assert [node.name for node in graph.affine()] == ["conv1"]


def test_a_block_with_a_layer_in_its_shortcut_keeps_its_own_name() -> None:
    graph = merge(
        Input("x", IMAGE),
        tanh("a", "x"),
        affine("conv", (convolution("A"), "a")),
        affine("shortcut", (convolution("B"), "x")),
        affine("add", (identity(IMAGE), "conv"), (identity(IMAGE), "shortcut")),
        tanh("b", "add"),
    )
    assert [node.name for node in graph.affine()] == ["add"]


def test_what_the_contract_says_of_sums() -> None:
    nodes = (
        Input("x", IMAGE),
        tanh("a", "x"),
        affine("sum", (identity(IMAGE), "x"), (identity(IMAGE), "a")),
        affine("same", (identity(IMAGE), "sum")),
        tanh("b", "same"),
    )
    graph = Graph(nodes, "b")
    assert AFFINE_CHAINS_MERGED.violation(graph) == (
        "the affine node 'same' reads the affine node 'sum'"
    )
    assert AFFINE_CHAINS_MERGED.violation(MergeAffine().run(graph)) is None


def test_a_concatenation_of_pieces_of_one_node_is_a_gather() -> None:
    """Circular padding of both axes, as exporters write it: three slices, twice."""

    def around(name: str, source: str, shape: Shape, axis: int) -> Affine:
        length = shape[axis]
        pieces = [Slice(shape, axis, length - 1, length), identity(shape), Slice(shape, axis, 0, 1)]
        start, terms = 0, []
        for piece in pieces:
            behind = length + 2 - start - piece.out_shape[axis]
            pads = tuple((start, behind) if k == axis else (0, 0) for k in range(len(shape)))
            terms.append((compose(Pad(piece.out_shape, pads), piece), source))
            start += piece.out_shape[axis]
        return affine(name, *terms)

    rows, columns = (2, 6, 4), (2, 6, 6)
    graph = merge(
        Input("x", IMAGE),
        tanh("a", "x"),
        around("rows", "a", IMAGE, 1),
        around("columns", "rows", rows, 2),
        tanh("b", "columns", columns),
    )
    (node,) = graph.affine()
    (term,) = node.terms
    assert term.parent == "a"
    assert term.map.out_shape == columns
    operator = term.map.bind(lambda p: p.value)
    wrapped = Monomial.padding(IMAGE, ((0, 0), (1, 1), (1, 1)), "circular")
    assert torch.equal(operator.index, wrapped.index)
