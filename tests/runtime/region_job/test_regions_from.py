"""Tests of where the regions of a job come from."""

from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.media.annotations import Picture
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.region_job import FileRegions, GridRegions, ProposedRegions
from atas_deploy.runtime.regions import TrackLinker


def encoded(seed: int = 0) -> Encoded:
    """Features of a picture 60 x 80 with two halves."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(0, 0.05, (6, 8, 16)).astype(np.float32)
    dense[:, :4, 0] += 1
    dense[:, 4:, 1] += 1
    dense /= np.linalg.norm(dense, axis=2, keepdims=True)
    return Encoded((60, 80), np.zeros((96, 128, 3), np.uint8), dense)


def test_boxes_of_a_file_are_linked_in_a_video_only(tmp_path: Path) -> None:
    """Boxes without tracks stay so in a picture, and get tracks in the frames of a video."""
    path = tmp_path / "boxes.csv"
    path.write_text("image,x0,y0,x1,y1\nclip.mp4,5,5,30,30\n")
    source, picture = FileRegions.boxes(path), Picture("clip.mp4", (60, 80), 0)
    assert [region.track for region in source.regions(picture)] == [None]
    linker = TrackLinker()
    tracks = [source.regions(picture, linker)[0].track for _ in range(3)]
    assert tracks[0] is not None
    assert len(set(tracks)) == 1


def test_a_part_of_the_pictures_is_no_problem(tmp_path: Path) -> None:
    """A file may be for more pictures; it is suspicious where an input finds nothing in it."""
    path = tmp_path / "boxes.csv"
    path.write_text("image,x0,y0,x1,y1\na.png,5,5,30,30\nb.png,5,5,30,30\n")
    source = FileRegions.boxes(path)
    source.regions(Picture("in/a.png", (60, 80)))
    assert source.problem() is None
    source.regions(Picture("in/c.png", (60, 80)))
    problem = source.problem()
    assert problem is not None
    assert "nothing for 1 input, but regions for 1 other picture (b.png)" in problem


def test_grid() -> None:
    """N x N boxes, without tracks, of any picture."""
    grid = GridRegions(3)
    regions = grid.regions(Picture("a.png", (60, 90)), TrackLinker())
    assert [region.box for region in regions[:2]] == [(0, 0, 30, 20), (30, 0, 60, 20)]
    assert {region.track for region in regions} == {None}
    assert len(regions) == 9
    assert (grid.problem(), grid.image_id(Picture("a.png", (1, 1)))) == (None, None)
    with pytest.raises(ConfigError, match="grid"):
        GridRegions(0)


def test_proposals_are_linked_in_a_video_only() -> None:
    """The same features again give the same tracks; a picture has none."""
    source, linker = ProposedRegions(), TrackLinker()
    picture, features = Picture("clip.mp4", (60, 80), 0), encoded()
    first = source.regions(picture, linker)(features)
    again = source.regions(picture, linker)(features)
    assert len({region.track for region in first} - {None}) == len(first) > 0
    assert [region.track for region in first] == [region.track for region in again]
    other = source.regions(picture)(encoded(1))
    assert {region.track for region in other} == {None}


def test_faults_are_those_of_the_file(tmp_path: Path) -> None:
    """What a file leaves out is known where the job tells it."""
    path = tmp_path / "boxes.csv"
    path.write_text("image,x0,y0,x1,y1\na.png,5,5,30,5\na.png,5,5,30,30\n")
    source = FileRegions.boxes(path)
    assert len(source.regions(Picture("a.png", (60, 80)))) == 1
    assert source.faults.count == 1
    assert GridRegions(2).faults.count == 0
