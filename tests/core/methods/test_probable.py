"""What is probable is never counted as proved: options, certificates, results, tables."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import vercomp
from vercomp.cli import cli
from vercomp.commands.questions import Confidence
from vercomp.core.chance import Chance
from vercomp.core.methods.certificates import Certificates
from vercomp.core.methods.crown import Crown
from vercomp.core.methods.method import Question
from vercomp.core.methods.portfolio import Certifiable, usual_methods
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regions.region import Region
from vercomp.core.specifications import Specification
from vercomp.errors import UsageError
from vercomp.report.tables import certificate_table
from vercomp.results.certificates import certificate_arrays
from vercomp.results.summaries import certificate_summary, to_json


class Guess(Crown):
    """Claims one more than linear bounds prove, with some probability."""

    name = "guess"
    probable = True

    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        count = specification.count
        return torch.full((len(region), count), -math.inf, dtype=torch.float64)

    def probable_bound(
        self,
        network: VerifiedNetwork,
        region: Region,
        specification: Specification,
        chance: Chance,
    ) -> Tensor:
        return super().bound(network, region, specification) + 1.0

    def certify(
        self, network: VerifiedNetwork, question: Question, known: Tensor | None = None
    ) -> Certificates:
        assert question.chance is not None
        found = Crown().certify(network, question, known)
        failure = torch.full_like(found.radius, question.chance.failure)
        return replace(found, failure_probability=failure)


@pytest.fixture
def net() -> vercomp.CompiledNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3))
    compiled = vercomp.compile(model, (3,))
    assert isinstance(compiled.network, Certifiable)
    compiled.network.methods = (*compiled.network.methods, Guess())
    return compiled


X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def test_probable_methods_are_used_by_name_and_alone(net: vercomp.CompiledNetwork) -> None:
    y = net.network(X).argmax(1)
    assert "guess" not in usual_methods(net.network)
    proved = net.certify(X, y)
    assert proved.proved
    assert proved.failure_probability is None
    found = net.certify(X, y, methods=["guess"])
    assert not found.proved
    assert torch.allclose(found.failure_probability, torch.full((6,), 1e-3, dtype=torch.float64))
    exact = net.certify(X, y, methods=["guess"], confidence=0.75).failure_probability
    assert exact.tolist() == [0.25] * 6
    with pytest.raises(vercomp.VercompError, match="'guess' are probable, and are not mixed"):
        net.certify(X, y, methods=["crown", "guess"])
    with pytest.raises(vercomp.VercompError, match="confidence is for probable methods"):
        net.certify(X, y, methods=["crown"], confidence=0.9)
    for wrong in (0.0, 1.0, 7.0, math.nan):
        with pytest.raises(vercomp.VercompError, match="a confidence must"):
            net.certify(X, y, methods=["guess"], confidence=wrong)
    with pytest.raises(vercomp.VercompError, match="a seed must be an integer"):
        net.certify(X, y, methods=["guess"], seed=0.5)


def test_bounds_are_probable_only_where_a_probable_method_is_named(
    net: vercomp.CompiledNetwork,
) -> None:
    region, rows = vercomp.Ball(X, 0.1), torch.eye(3)
    crown = net.bound(region, rows, methods=["crown"])
    assert torch.equal(net.bound(region, rows, methods=["guess"]), crown + 1.0)
    assert (net.bound(region, rows) < crown + 1.0).all()
    with pytest.raises(vercomp.VercompError, match="not mixed"):
        net.bound(region, rows, methods=["crown", "guess"])


def test_claims_about_outputs_at_the_inputs_rest_on_proofs(net: vercomp.CompiledNetwork) -> None:
    """A probable bound of the outputs would be worth one more, and the claim would be false."""
    found = net.certify(X, vercomp.Deviation(0.5), methods=["crown"])
    assert (found.radius > 0.0).all()


def test_results_have_no_proved_figures(net: vercomp.CompiledNetwork) -> None:
    y = net.network(X).argmax(1)
    y[0] = (y[0] + 1) % 3
    arrays = certificate_arrays(net, X, y, radius=0.1, methods=["guess"], confidence=0.99)
    for name in ("radius", "radius_per_target", "radius_runner_up"):
        assert np.isnan(arrays[name]).all()
    assert (arrays["probable_radius"][1:] > 0.0).all()
    summary = certificate_summary(arrays, radius=0.1, targets="all", methods=["guess"])
    for name in ("certified_accuracy", "mean_radius", "median_radius", "exact_fraction"):
        assert summary[name] is None
    assert summary["certified_accuracy_runner_up"] is None
    assert summary["evidence"] == "probable"
    assert summary["confidence"] == pytest.approx(0.99)
    assert summary["confidence_of_all"] == pytest.approx(0.94)
    share = float((arrays["probable_radius"] > 0.1).mean())
    assert summary["probably_certified_accuracy"] == share
    assert json.loads(to_json(summary))["probably_certified_accuracy"] == share
    assert certificate_table(summary, arrays, "title") is not None
    proved = certificate_arrays(net, X, y, radius=0.1)
    assert "evidence" not in certificate_summary(proved, radius=0.1, targets="all")


def test_a_joint_confidence_is_shared_out(net: vercomp.CompiledNetwork) -> None:
    jointly = Confidence(0.99, jointly=True, seed=3)
    found = jointly.options(net, ["guess"], "all", 1000)
    assert 1.0 - found["confidence"] <= 0.01 / 1000
    assert found["confidence"] == pytest.approx(1.0 - 1e-5, abs=1e-12)
    assert found["seed"] == 3
    assert Confidence().options(net, None, "all", 10) == {}
    with pytest.raises(UsageError, match="for probable methods"):
        Confidence(0.9).options(net, ["crown"], "all", 10)
    with pytest.raises(UsageError, match="against all targets"):
        Confidence().options(net, ["guess"], "runner-up", 10)


def test_the_command_line_refuses_a_confidence_that_nothing_needs(tmp_path: Path) -> None:
    model = vercomp.compile(nn.Sequential(nn.Linear(2, 2)), (2,))
    model.save(tmp_path / "package")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 2), np.float32), y=np.zeros(2, np.int64))
    command = ["certify", str(tmp_path / "package"), "--data", str(tmp_path / "data.npz")]
    result = CliRunner().invoke(cli, [*command, "--confidence", "0.9"])
    assert isinstance(result.exception, UsageError)
    assert "for probable methods" in str(result.exception)
