"""How workers share machines, and sources workers."""

from pathlib import Path
from typing import Any

import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.media.sources import Source
from atas_deploy.runtime.ray_job.cluster import Pool, share
from atas_deploy.runtime.ray_job.items import divide, images_per_item
from atas_deploy.runtime.run_files import RunFiles


def machine(cpus: float, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    """A machine as Ray lists it, which leaves out what there is none of."""
    resources = {"CPU": cpus, "GPU": gpus, "memory": 1e9}
    return {"Alive": alive, "Resources": {name: n for name, n in resources.items() if n}}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpu", "cpus", "per_machine", "count"),
    [
        ([machine(8)], 0, False, 8, 1, 1),
        ([machine(8)], 3, False, 2, 3, 3),
        ([machine(2)], 2, False, 1, 2, 2),
        ([machine(8), machine(4), machine(16, alive=False)], 0, False, 4, 1, 2),
        ([machine(8), machine(8)], 3, False, 4, 2, 3),
        ([machine(8, 2), machine(16)], 0, True, 4, 2, 2),
        ([machine(8, 4)], 1, True, 8, 1, 1),
        ([machine(8, 1), machine(8, 3)], 0, True, 2, 3, 4),
        ([machine(2, 4)], 0, True, 0, 4, 4),
    ],
)
def test_share(
    nodes: list[dict[str, Any]], workers: int, gpu: bool, cpus: int, per_machine: int, count: int
) -> None:
    """All workers find room at once, each with the same part of a machine."""
    expected = Pool(workers=count, cpus=cpus, gpus=int(gpu), per_machine=per_machine)
    assert share(nodes, workers, gpu=gpu) == expected


@pytest.mark.parametrize(
    ("nodes", "workers", "gpu", "message"),
    [
        ([machine(2)], 3, False, "3 workers for 2 CPUs"),
        ([machine(8, 1)], 2, True, "2 workers for 1 GPUs"),
        ([machine(8)], 0, True, "1 workers for 0 GPUs"),
    ],
)
def test_no_room(nodes: list[dict[str, Any]], workers: int, gpu: bool, message: str) -> None:
    """Workers that never find room are refused rather than waited for."""
    with pytest.raises(ConfigError, match=message):
        share(nodes, workers, gpu=gpu)


@pytest.mark.parametrize(
    ("total", "workers", "batch", "images"),
    [(3, 2, 1, 1), (160, 2, 1, 10), (160, 2, 4, 8), (10, 4, 16, 16), (10**6, 8, 1, 256)],
)
def test_images_per_item(total: int, workers: int, batch: int, images: int) -> None:
    """Whole batches, eight items a worker at least where there are enough, 256 images at most."""
    assert images_per_item(total, workers=workers, batch_size=batch) == images


def test_divide() -> None:
    """In order, images together, each video by itself, and no name twice."""
    kinds = ["image"] * 5 + ["video"] * 2 + ["image"]
    sources = [
        Source(location=Path(f"{i}"), kind=kind, name=f"{i}")  # type: ignore[arg-type]
        for i, kind in enumerate(kinds)
    ]
    items = [*divide(sources, images=2), *divide(sources, images=2)]
    assert [len(item.sources) for item in items] == [2, 2, 1, 1, 1, 1] * 2
    assert [source for item in items[:6] for source in item.sources] == sources
    assert len({item.name for item in items}) == len(items)


def test_files_of_items(tmp_path: Path) -> None:
    """They are found in order, whatever a kill left of them, apart from others, and removed."""
    for name in (
        "results.item-ab-10.jsonl.part", "results.item-ab-2.jsonl", ".atas-deploy.item-ab-11.lock",
        ".atas-deploy.item-ab-10.writing", "results.1-of-2.jsonl", "my.item-ab-1.png",
    ):  # fmt: skip
        (tmp_path / name).touch()
    items = RunFiles(tmp_path).items()
    assert [files.item for files in items] == ["ab-2", "ab-10", "ab-11"]
    for files in items:
        files.remove()
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.1-of-2.jsonl", "my.item-ab-1.png",
    }  # fmt: skip
