"""The numbers of a monitor: closed forms, an explicit Jacobian, and `locate` on the same weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.location.demand import FEW_SHARES
from geomfeat.monitoring import MonitorOptions, Row
from geomfeat.regimes.linearization.response import gain, stop_time
from tests.monitoring.trainings import data, network, scalar_network, squares, trained


@pytest.mark.parametrize(("a", "w"), [(0.5, 2.0), (1.5, -1.0), (3.0, 0.7)])
def test_a_product_of_two_numbers_has_the_closed_form(a: float, w: float, tmp_path: Path) -> None:
    """K0 = a^2 + w^2; R = log10(q |d| |a / w| / K0), q = 1 - sqrt(e), d the change so far; and Chizat's criterion.

    m = a w sign(d) / K0, z = -2 m + sqrt(4 m^2 + c) and, for m < 0, the smaller root of the other sign: kappa =
    log10(q |d| / (K0 z)) with c = .2 and e = .01.
    """
    net = scalar_network(a, w)
    one = torch.ones(4, 1, dtype=torch.float64)
    monitor = trained(
        net, one, 3 * one, tmp_path, 3, lr=0.02, loss=squares, layers=["0"],
        options=MonitorOptions(max_share=None, n_probes=4, kernel="demand"),
    )  # fmt: skip
    row = monitor.rows[-1]
    last = net[1].weight.item() * net[0].weight.item()
    d, size = last - a * w, a * a + w * w
    # Four equal probes: the kernel is 4 K0 along the one direction, and the movement the same.
    roots = [1 - math.sqrt(e) for e in FEW_SHARES]
    expected = sum(math.log10(q * abs(d) * abs(a / w) / size) for q in roots) / len(roots)
    assert row.get("richness") == pytest.approx(expected, abs=1e-9)
    assert row.get("movement") == pytest.approx(math.log10(abs(net[0].weight.item() - w) / abs(w)), abs=1e-9)
    assert row.get("excess") == pytest.approx(row.get("movement") - expected, abs=1e-9)
    m, c, q = a * w * math.copysign(1, d) / size, 0.2, 1 - math.sqrt(0.01)
    z = -2 * m + math.sqrt(4 * m * m + c)
    if m < 0 and 4 * m * m >= c:
        z = min(z, 2 * abs(m) - math.sqrt(4 * m * m - c))
    assert row.get("kernel_demand") == pytest.approx(math.log10(q * abs(d) / (size * z)), abs=0.02)
    now = net[1].weight.item() ** 2 + net[0].weight.item() ** 2
    assert row.get("kernel_change") == pytest.approx(abs(now - size) / size, abs=1e-12)
    assert row.get("kernel_size") == pytest.approx(now / size, abs=1e-12)
    assert row.get("kernel_turn") == pytest.approx(0.0, abs=1e-7)


def explicit(start: nn.Module, x: Tensor, change: Tensor, layer: str) -> float:
    """R of a layer from the whole Jacobian, by the definition: gradient flow of the linear model to each share."""
    names, values = zip(*((n, p.detach()) for n, p in start.named_parameters()), strict=True)

    def outputs_and_features(*theta: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        hook = start.get_submodule(layer).register_forward_hook(lambda _m, _a, out: seen.append(out))
        out = torch.func.functional_call(start, dict(zip(names, theta, strict=True)), (x,))
        hook.remove()
        return out.flatten(), seen[0].flatten()

    both = torch.autograd.functional.jacobian(outputs_and_features, values)
    j, jh = (torch.cat([part.flatten(1) for part in one], 1) for one in both)
    values_k, vectors = torch.linalg.eigh(j @ j.T)
    loads = vectors.T @ change.flatten()
    size = outputs_and_features(*values)[1].norm()
    found = []
    for share in FEW_SHARES:
        kept = values_k > 1e-12 * values_k.max()
        t = stop_time(values_k[kept], loads[kept].square(), share)
        step = j.T @ (vectors[:, kept] @ (gain(values_k[kept], t, float(values_k.max())) * loads[kept]))
        found.append(math.log10(float((jh @ step).norm() / size)))
    return sum(found) / len(found)


def test_demand_is_that_of_the_explicit_jacobian_and_the_kernel_that_of_its_rows(tmp_path: Path) -> None:
    net, (x, y) = network(width=6).double(), data(12)
    x, start = x.double(), copy.deepcopy(net)
    options = MonitorOptions(max_share=None, n_probes=12)
    monitor = trained(net, x, y, tmp_path, 12, every=6, lr=0.3, options=options)
    change = (net(x) - start(x)).detach()
    for layer in ("0", "2"):
        assert monitor.rows[-1].of_layer(layer, "richness") == pytest.approx(
            explicit(start, x, change, layer), abs=1e-6
        )
    before, after = (gf.ntk(m, x, outputs="full").gram for m in (start, net))
    assert monitor.rows[-1].get("kernel_change") == pytest.approx(
        float((after - before).norm() / before.norm()), rel=1e-9
    )


def test_the_last_row_is_the_location_of_the_trained_network(tmp_path: Path) -> None:
    net, (x, y) = network().double(), data(32)
    x, start = x.double(), copy.deepcopy(net)
    rule = {"*": 0.3}
    options = MonitorOptions(max_share=None, n_probes=20, kernel="demand")
    row = trained(net, x, y, tmp_path, 20, every=20, lr=0.3, optimizer=rule, options=options, seed=4).rows[-1]
    where = gf.locate(
        net, x, initial=start, optimizer=rule, progress=False, seed=4,
        options=gf.LocateOptions(n_probes=20, n_bootstrap=2),
    )  # fmt: skip
    assert row.get("movement") == pytest.approx(where.movement, abs=1e-9)
    assert row.get("richness") == pytest.approx(where.richness, abs=0.02)  # over three shares of the change, not nine
    assert row.get("kernel_demand") == pytest.approx(where.kernel_demand, abs=0.03)
    assert row.get("kernel_change") == pytest.approx(where.kernel_change, abs=1e-9)
    assert row.regime == where.regime
    for name, m in zip(where.layers["layer"], where.layers["movement"], strict=True):
        assert row.of_layer(name, "movement") == pytest.approx(m, abs=1e-9)


def test_many_outputs_go_through_the_leading_directions_of_the_change(tmp_path: Path) -> None:
    net, (x, _) = network(outputs=40, width=32), data(32)
    y, start = torch.arange(32) % 40, copy.deepcopy(net)
    options = MonitorOptions(max_share=None, n_probes=16)
    row = trained(net, x, y, tmp_path, 10, every=10, lr=0.5, options=options).rows[-1]
    where = gf.locate(
        net, x, initial=start, progress=False, options=gf.LocateOptions(n_probes=16, n_bootstrap=2, projections=4)
    )
    assert row.get("richness") == pytest.approx(where.richness, abs=0.03)
    assert row.get("kernel_change") == pytest.approx(where.kernel_change, rel=0.2)  # a sketch


def test_adam_is_measured_in_its_own_coordinates(tmp_path: Path) -> None:
    net, (x, y) = network(), data(32)
    start, rule = copy.deepcopy(net), torch.optim.Adam(net.parameters(), lr=3e-3)
    options = MonitorOptions(max_share=None, n_probes=20)
    with gf.Monitor(net, x, folder=tmp_path, every=5, optimizer=rule, options=options) as monitor:
        for step in range(1, 11):
            rule.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            rule.step()
            monitor.step(step, loss)
    where = gf.locate(
        net, x, initial=start, optimizer=rule, progress=False, options=gf.LocateOptions(n_probes=20, n_bootstrap=2)
    )
    assert monitor.rows[-1].get("richness") == pytest.approx(where.richness, abs=0.03)
    assert monitor.rows[-1].get("rate") == 3e-3


def test_only_what_is_trained_counts(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    net[0].requires_grad_(False)
    row: Row = trained(net, x, y, tmp_path, 3).rows[-1]
    assert row.of_layer("0", "movement") == row.of_layer("0", "richness") == -math.inf
    assert row.get("richness") == row.of_layer("2", "richness")
    assert math.isnan(row.of_layer("0", "excess"))


def test_losses_of_probes_and_of_held_out_samples(tmp_path: Path) -> None:
    net, (x, y) = network(), data(40)
    options = MonitorOptions(max_share=None, n_probes=24, held_out=(x[24:], y[24:]))
    monitor = trained(net, x[:24], y[:24], tmp_path, 4, targets=y[:24], options=options)
    last = monitor.rows[-1]
    for name, part in (("probe_loss", slice(0, 24)), ("held_out_loss", slice(24, 40))):
        expected = float(nn.functional.cross_entropy(net(x[part]), y[part]).detach())
        assert last.get(name) == pytest.approx(expected, abs=1e-6)
    values = MonitorOptions(max_share=None, n_probes=24, loss="mse")
    other = trained(net, x, y, tmp_path / "mse", 1, targets=torch.ones(40, 2), options=values).rows[0]
    assert other.get("probe_loss") > 0


def test_registered_measures_are_those_of_the_features(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    measures = ["participation_ratio", "nc1", "cka_linear_unbiased"]
    options = MonitorOptions(max_share=None, n_probes=24)
    start = copy.deepcopy(net)
    row = trained(net, x, y, tmp_path, 3, targets=y, measures=measures, options=options).rows[-1]
    before, after = (gf.extract(m, x, y, layers=["2"], progress=False)["2"] for m in (start, net))
    by_name = {name: gf.registry.get(name) for name in measures}  # pyright: ignore
    assert row.of_layer("2", "participation_ratio") == pytest.approx(
        by_name["participation_ratio"](after).value, rel=1e-5
    )
    assert row.of_layer("2", "nc1") == pytest.approx(by_name["nc1"](after).value, rel=1e-4)
    assert row.of_layer("2", "cka_linear_unbiased") == pytest.approx(
        by_name["cka_linear_unbiased"](before, after).value, rel=1e-5
    )
