"""Tracks for boxes that have none."""

import numpy as np
import pytest
from torchvision.ops import box_iou

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.region import Region
from atas_deploy.runtime.regions import TrackLinker


def boxes(
    *corners: tuple[float, float], side: float = 10, track: int | None = None
) -> list[Region]:
    """Squares by their left upper corners."""
    return [Region(box=(x, y, x + side, y + side), track=track) for x, y in corners]


def tracks(regions: list[Region]) -> list[int | None]:
    """Track of each."""
    return [region.track for region in regions]


def test_boxes_keep_their_tracks_as_they_move() -> None:
    """Two that pass each other at a distance, in changing order, for twenty frames."""
    linker = TrackLinker()
    for step in range(20):
        right, left = (5.0 * step, 0.0), (95 - 5.0 * step, 20.0)
        found = linker(boxes(left, right) if step % 2 else boxes(right, left))
        assert tracks(found) == ([2, 1] if step % 2 else [1, 2])


def test_nothing_else_of_a_region_changes() -> None:
    """Its mask, its score and its place in the list."""
    mask = np.ones((4, 4), np.bool_)
    region = Region.from_mask(mask, score=0.5, category=3)
    [found] = TrackLinker()([region])
    assert (found.box, found.rle, found.score, found.category) == (
        region.box,
        region.rle,
        0.5,
        3,
    )


def test_pairs_that_overlap_most_are_linked_first() -> None:
    """The first box overlaps the track more than enough, the second more still."""
    linker = TrackLinker()
    linker(boxes((0, 0)))
    assert tracks(linker(boxes((3, 0), (1, 0)))) == [2, 1]


@pytest.mark.parametrize(("shift", "track"), [(2.5, 1), (2.6, 2)])
def test_overlap_decides(shift: float, track: int) -> None:
    """Squares of 10, shifted by 2.5, share 75 of 125 pixels: exactly 0.6."""
    linker = TrackLinker(overlap=0.6)
    linker(boxes((0, 0)))
    assert tracks(linker(boxes((shift, 0)))) == [track]


def test_track_outlives_a_gap_up_to_the_patience() -> None:
    """Unseen for three frames it goes on, for four it has ended."""
    for gap, track in ((3, 1), (4, 2)):
        linker = TrackLinker(patience=3)
        linker(boxes((0, 0)))
        for _ in range(gap):
            linker([])
        assert tracks(linker(boxes((0, 0)))) == [track]


def test_given_tracks_stay_and_new_ones_lie_above() -> None:
    """No number is given twice."""
    linker = TrackLinker()
    found = linker([*boxes((0, 0), track=40), *boxes((50, 0))])
    assert tracks(found) == [40, 41]


def test_memory_is_bounded() -> None:
    """Boxes that never come again are forgotten."""
    linker = TrackLinker(patience=4)
    for frame in range(100):
        linker(boxes((20.0 * frame, 0), (20.0 * frame, 50)))
        assert len(linker) <= 2 * 6


@pytest.mark.parametrize("at_once", [1_000_000, 100, 7])
def test_links_equal_a_plain_greedy_matching(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Against overlaps by torchvision, one pair after the other, in parts and at once."""
    import torch

    monkeypatch.setattr("atas_deploy.runtime.regions.linker._PAIRS", at_once)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    linker = TrackLinker(overlap=0.3)
    before = linker(boxes(*map(tuple, corners)))
    after = linker(boxes(*map(tuple, corners + rng.normal(0, 2, corners.shape))))
    overlap = box_iou(
        torch.tensor([region.box for region in after]),
        torch.tensor([region.box for region in before]),
    ).numpy()
    expected: dict[int, int | None] = {}
    while overlap.max() >= 0.3:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        expected[int(row)] = before[column].track
        overlap[row], overlap[:, column] = 0, 0
    linked = {row: region.track for row, region in enumerate(after) if region.track <= 40}
    assert linked == expected
    fresh = [region.track for region in after if region.track > 40]
    assert fresh == list(range(41, 41 + len(fresh)))


def test_pairs_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd in which each overlaps each is linked as it would be pair by pair."""
    rng = np.random.default_rng(0)
    crowd = [tuple(corner) for corner in rng.uniform(0, 2, (300, 2))]
    moved = [(x + 0.1, y) for x, y in crowd]
    before = TrackLinker()
    before(boxes(*crowd))
    expected = tracks(before(boxes(*moved)))
    monkeypatch.setattr("atas_deploy.runtime.regions.linker._PAIRS", 2000)
    linker, most = TrackLinker(), []
    pairs = linker._pairs

    def watched(*args: object) -> tuple[np.ndarray, bool]:
        found = pairs(*args)
        most.append(len(found[0]))
        return found

    monkeypatch.setattr(linker, "_pairs", watched)
    linker(boxes(*crowd))
    assert tracks(linker(boxes(*moved))) == expected
    assert max(most) == 2000
    assert len(most) > 1


@pytest.mark.parametrize("setting", [{"overlap": 0}, {"overlap": 1.1}, {"patience": 0}])
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, float]) -> None:
    """Before any frame."""
    with pytest.raises(ConfigError, match="expected a"):
        TrackLinker(**setting)
