"""The sweep over sizes: its points are those of the regions task, and its plot shows them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import BackendUnavailableError, ConfigError
from atas_deploy.evaluation.bootstrap import Score
from atas_deploy.evaluation.region_data import RegionData
from atas_deploy.evaluation.regions import RegionsTask
from atas_deploy.evaluation.sweep import Curve, Sweep, to_json, to_markdown
from atas_deploy.evaluation.sweep_plot import draw, write_plot
from atas_deploy.evaluation.task import run_task
from atas_deploy.runtime.regions import RegionClassifier

SIZES = (64, 96)
NAMES = ["dog", "cat", "car", "boat", "bus", "bird", "horse"]


@pytest.fixture(scope="module")
def data(
    write_panoptic: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> RegionData:
    """Two pictures with four boxes each."""
    folder = tmp_path_factory.mktemp("boxes")
    ids = np.kron(np.arange(1, 5).reshape(2, 2), np.ones((32, 40), int))
    pictures = {
        name: (ids, [(n, (n + shift) % 7, False) for n in range(1, 5)])
        for name, shift in (("a", 0), ("b", 2))
    }
    file = write_panoptic(folder, [(name, True) for name in NAMES], pictures)
    return RegionData(folder / "images", panoptic=file)


@pytest.fixture(scope="module")
def curves(data: RegionData) -> list[Curve]:
    """A sweep of the embedded model."""
    return Sweep(["atas-tiny"], data, short_sides=SIZES, cache=False).run(replicates=100)


def test_points_are_those_of_the_regions_task(data: RegionData, curves: list[Curve]) -> None:
    """Dense features at each size, crops once."""
    (curve,) = curves
    assert list(curve.dense) == list(SIZES)
    for side in SIZES:
        classifier = RegionClassifier(classes=NAMES, short_side=side, crop_scale=1.5, cache=False)
        task = RegionsTask(classifier, data, kinds=["boxes", "crops"])
        scores = run_task(task, replicates=100).scores
        assert curve.dense[side] == {f"boxes_top{k}": scores[f"boxes_top{k}"] for k in (1, 5)}
        assert curve.crops == {f"crops_top{k}": scores[f"crops_top{k}"] for k in (1, 5)}


def test_every_picture_is_read_once_a_model(data: RegionData) -> None:
    """Whatever the number of sizes; those given twice are measured once."""
    seen: list[int] = []
    sweep = Sweep(["atas-tiny"], data, short_sides=(64, 96, 64), cache=False)
    (curve,) = sweep.run(advance=lambda: seen.append(1), replicates=100)
    assert len(seen) == sweep.total == 2
    assert list(curve.dense) == [64, 96]


def test_json_holds_curves_with_intervals(curves: list[Curve]) -> None:
    """And what they depend on, but no size."""
    found = json.loads(json.dumps(to_json(curves, replicates=100, seed=0)))
    (curve,) = found["curves"]
    assert [point["short_side"] for point in curve["dense"]] == list(SIZES)
    assert set(curve["dense"][0]["scores"]["boxes_top5"]) == {"value", "low", "high"}
    assert curve["facts"]["model"] == "atas-tiny"
    assert "short_side" not in curve["facts"]


def made_up(name: str, *, readout: str) -> Curve:
    """A curve with known numbers."""
    scores = {side: Score(side / 1000, side / 2000, side / 500) for side in (200, 400)}
    dense = {side: {"boxes_top1": s, "boxes_top5": s} for side, s in scores.items()}
    crops = {"crops_top1": Score(0.5, 0.4, 0.6), "crops_top5": Score(0.7, 0.6, 0.8)}
    return Curve(name, {"readout": readout, "backend": "ort"}, dense, crops)


def test_the_page_has_a_line_a_size_and_shared_facts_once() -> None:
    """Facts in which models differ have a line each."""
    page = to_markdown([made_up("one", readout="sclip"), made_up("two", readout="maskclip")])
    assert "| one | dense, 200 px | 20.00 | 10.00 to 40.00 | 20.00 | 10.00 to 40.00 |" in page
    assert "| two | crops | 50.00 | 40.00 to 60.00 | 70.00 | 60.00 to 80.00 |" in page
    assert page.count("- backend: ort") == 1
    assert "- readout of one: sclip" in page
    assert "- readout of two: maskclip" in page


def test_the_plot_shows_the_numbers() -> None:
    """Two panels; of each model a line of dense features, and a flat one of crops."""
    figure = draw([made_up("one", readout="sclip"), made_up("two", readout="sclip")])
    top1, top5 = figure.axes
    for axes, crops in ((top1, 50), (top5, 70)):
        lines = axes.get_lines()
        assert len(lines) == 4
        np.testing.assert_allclose(lines[0].get_xydata(), [[200, 20], [400, 40]])
        np.testing.assert_allclose(lines[1].get_xydata(), [[200, crops], [400, crops]])
        assert len({line.get_color() for line in lines}) == 4
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    low, high = top1.collections[0].get_datalim(top1.transData).intervaly
    assert (low, high) == pytest.approx((10, 80))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["one, dense features", "one, crops"]


def test_the_plot_is_written_whole(curves: list[Curve], tmp_path: Path) -> None:
    """A PNG, and nothing beside it."""
    write_plot(tmp_path / "sweep.png", curves)
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.png"]


def test_without_matplotlib_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendUnavailableError, match=r'pip install "atas-deploy\[plot\]"'):
        draw([made_up("one", readout="sclip")])


def test_sizes_that_a_model_cannot_take_are_refused_first(data: RegionData) -> None:
    """Before anything is measured."""
    with pytest.raises(ConfigError, match="100000"):
        Sweep(["atas-tiny"], data, short_sides=(64, 100_000))
    with pytest.raises(ConfigError, match="no short side"):
        Sweep(["atas-tiny"], data, short_sides=())
