"""The teacher's embeddings on disk."""

import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atas_deploy.core.errors import OutputError
from atas_deploy.training.teacher_cache import TeacherCache, cache_key

RECORD = 4 * 8 + 4  # bytes of a row of width 8 and its checksum


def open_cache(folder: Path, *, count: int = 20, views: int = 2, key: str = "a") -> TeacherCache:
    """A cache of width 8."""
    return TeacherCache(folder, count=count, views=views, width=8, key=key)


def rows(count: int, seed: int = 0) -> Tensor:
    """Random rows (count, 8)."""
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def known(cache: TeacherCache, view: int = 0) -> list[int]:
    """The images whose rows are there."""
    flags = cache.lookup(torch.arange(cache.count), view)[1]
    return flags.nonzero().flatten().tolist()


def test_rows_come_back_bit_for_bit(tmp_path: Path) -> None:
    """What one cache stored another one of the same key reads, in any order, and no more."""
    stored = rows(3) * 1e-20
    open_cache(tmp_path).store(torch.tensor([7, 0, 19]), 1, stored)
    features, found = open_cache(tmp_path).lookup(torch.tensor([19, 3, 7, 19]), 1)
    assert found.tolist() == [True, False, True, True]
    assert features.dtype == torch.float32
    assert torch.equal(features, torch.stack([stored[2], torch.zeros(8), stored[0], stored[2]]))


def test_views_of_an_image_are_kept_apart(tmp_path: Path) -> None:
    """A row of one view says nothing about the other."""
    cache = open_cache(tmp_path)
    cache.store(torch.tensor([4]), 0, rows(1, 1))
    assert (known(cache, 0), known(cache, 1)) == ([4], [])
    cache.store(torch.tensor([4]), 1, rows(1, 2))
    for view in (0, 1):
        assert torch.equal(cache.lookup(torch.tensor([4]), view)[0], rows(1, 1 + view))


def test_a_row_of_zeros_is_known(tmp_path: Path) -> None:
    """An embedding of zeros differs from a row never written."""
    cache = open_cache(tmp_path)
    cache.store(torch.tensor([2]), 0, torch.zeros(1, 8))
    assert known(cache) == [2]


def test_no_images_are_no_rows(tmp_path: Path) -> None:
    """An empty batch is looked up and stored."""
    cache = open_cache(tmp_path)
    none = torch.zeros(0, dtype=torch.int64)
    cache.store(none, 0, torch.zeros(0, 8))
    features, found = cache.lookup(none, 0)
    assert (features.shape, found.shape) == ((0, 8), (0,))


@pytest.mark.parametrize("kept", range(0, RECORD, 4))
def test_a_crash_while_a_row_is_written_leaves_it_unknown(tmp_path: Path, kept: int) -> None:
    """Wherever the write of a row breaks off, that row is unknown and its neighbours stay."""
    cache = open_cache(tmp_path, views=1)
    cache.store(torch.arange(3), 0, rows(3))
    whole = cache.path.read_bytes()
    torn = whole[: RECORD + kept] + b"\0" * (RECORD - kept) + whole[2 * RECORD :]
    cache.path.write_bytes(torn)
    assert known(open_cache(tmp_path, views=1)) == [0, 2]


def test_a_torn_row_over_an_older_one_is_unknown(tmp_path: Path) -> None:
    """Half of a new row before half of an old one, with the old checksum, is no row."""
    cache = open_cache(tmp_path, views=1)
    cache.store(torch.arange(2), 0, rows(2))
    old = cache.path.read_bytes()
    cache.path.write_bytes(rows(1, 9).numpy().tobytes()[:16] + old[16:])
    assert known(cache) == [1]


def test_a_file_cut_short_is_filled_up(tmp_path: Path) -> None:
    """A crash between making the file and giving it its length costs nothing but the lost rows."""
    cache = open_cache(tmp_path, views=1)
    cache.store(torch.tensor([1, 15]), 0, rows(2))
    cache.path.write_bytes(cache.path.read_bytes()[: 5 * RECORD + 3])
    again = open_cache(tmp_path, views=1)
    assert known(again) == [1]
    assert again.path.stat().st_size == 20 * RECORD


@pytest.mark.parametrize("change", [{"key": "b"}, {"count": 21}, {"views": 3}])
def test_another_key_or_shape_starts_anew(tmp_path: Path, change: dict[str, str]) -> None:
    """No row is read under another key, and the old file does not stay on the disk."""
    old = open_cache(tmp_path)
    old.store(torch.arange(20), 0, rows(20))
    new = open_cache(tmp_path, **change)  # type: ignore[arg-type]
    assert known(new) == []
    assert list(tmp_path.iterdir()) == [new.path]


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    """Only caches are removed."""
    theirs = tmp_path / "teacher-mine.cache"
    theirs.write_text("notes")
    open_cache(tmp_path, key="b")
    assert theirs.read_text() == "notes"


def test_rows_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    """A NaN of one run does not come back in the next."""
    cache, values = open_cache(tmp_path), rows(3)
    values[1, 3] = torch.nan
    values[2, 0] = torch.inf
    cache.store(torch.arange(3), 0, values)
    assert known(cache) == [0]


def test_features_of_another_type_with_gradient_are_stored(tmp_path: Path) -> None:
    """What autocast gives is stored as float32."""
    cache, values = open_cache(tmp_path), rows(2).bfloat16().requires_grad_()
    cache.store(torch.arange(2), 0, values)
    assert torch.equal(cache.lookup(torch.arange(2), 0)[0], values.detach().float())


RANK = """
import sys
from pathlib import Path
import torch
from atas_deploy.training.teacher_cache import TeacherCache
folder, rank = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(4):
    cache = TeacherCache(folder, count=200, views=1, width=8, key="a")
    indices = torch.arange(rank, 200, 2)
    for index in indices.split(7):
        cache.store(index, 0, index[:, None].expand(-1, 8) + rank / 2)
        features, known = cache.lookup(torch.arange(200), 0)
        expected = torch.arange(200) + torch.arange(200) % 2 / 2
        assert torch.equal(features[known], expected[known, None].expand(-1, 8))
"""


def test_two_ranks_write_their_own_rows_at_once(tmp_path: Path) -> None:
    """Two processes start the same cache together; each sees the other's rows, whole."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path), str(rank)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in ranks:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    cache = TeacherCache(tmp_path, count=200, views=1, width=8, key="a")
    assert known(cache) == list(range(200))


SCATTER = """
import sys
from pathlib import Path
import torch
from atas_deploy.training.teacher_cache import TeacherCache
cache = TeacherCache(Path(sys.argv[1]), count=1_200_000, views=2, width=512, key="a")
features = torch.randn(100, 512)

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

before = None
for batch in range(100):
    indices = torch.randint(1_200_000, (100,), generator=torch.Generator().manual_seed(batch))
    cache.store(indices, batch % 2, features)
    assert cache.lookup(indices, batch % 2)[1].all()
    before = before or resident()
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' counters")
def test_memory_is_flat_for_an_imagenet(tmp_path: Path) -> None:
    """10,000 rows all over 1.2 M images take a few megabytes; mapped pages would be 40."""
    done = subprocess.run(
        [sys.executable, "-c", SCATTER, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 8
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == 2_400_000 * (4 * 512 + 4)


def test_a_cache_is_pickled_and_opened_elsewhere(tmp_path: Path) -> None:
    """Nothing open travels with it."""
    cache = open_cache(tmp_path)
    cache.store(torch.tensor([3]), 0, rows(1))
    assert known(pickle.loads(pickle.dumps(cache))) == [3]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A file in the folder's place is reported as such."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        open_cache(tmp_path / "file" / "cache")


def test_a_row_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """What the system refuses to write is an error of output, and the row stays unknown."""
    cache = open_cache(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (RECORD, hard))
    try:
        with pytest.raises(OutputError, match=r"Cannot write .*\.cache"):
            cache.store(torch.tensor([5]), 0, rows(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert known(cache) == []


def test_the_key_tells_weights_images_and_settings_apart() -> None:
    """One changed weight, name, order of names or setting is another key; the same is the same."""
    torch.manual_seed(0)
    teacher, names, settings = nn.Linear(3, 2), ["a.png", "b.png"], {"size": 224}
    key = cache_key(teacher, names, settings)
    assert cache_key(teacher, list(names), dict(settings)) == key
    others = [
        cache_key(teacher, names[::-1], settings),
        cache_key(teacher, ["a.png"], settings),
        cache_key(teacher, names, {"size": 336}),
        cache_key(teacher.bfloat16().float(), names, settings),
    ]
    assert len({key, *others}) == 5
