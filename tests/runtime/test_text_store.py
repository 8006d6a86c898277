"""The cache of text features on disk: several processes, damage, limits."""

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import Bundle
from atas_deploy.models import open_model
from atas_deploy.runtime.text import TextFeatures
from atas_deploy.runtime.text_store import Features, TextStore

ONE = ("{}",)
TWO = ("{}", "a {}")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The embedded model."""
    return open_model("atas-tiny")


def features_of(words: list[str], *, width: int = 256) -> dict[str, Features]:
    """Made-up unit vectors, the same for the same word."""
    found = {}
    for word in words:
        seed = int.from_bytes(word.encode(), "big") % 2**32
        vector = np.random.default_rng(seed).normal(size=width).astype(np.float32)
        found[word] = vector / np.linalg.norm(vector)
    return found


def file_of(folder: Path) -> Path:
    """The one file of a cache."""
    (path,) = folder.glob("*.sqlite3")
    return path


def assert_equal(found: dict[str, Features], expected: dict[str, Features]) -> None:
    """Same words, same bits."""
    assert found.keys() == expected.keys()
    for word, vector in found.items():
        np.testing.assert_array_equal(vector, expected[word])


def test_round_trip(bundle: Bundle, tmp_path: Path) -> None:
    """What was written is read, by another store, bit for bit; more than one bulk of it."""
    expected = features_of([f"word {i}" for i in range(1_234)] + ["", "犬", "a\0b"])
    store = TextStore(bundle, folder=tmp_path / "new" / "folder")
    store.write(ONE, expected)
    other = TextStore(bundle, folder=tmp_path / "new" / "folder")
    assert_equal(other.read(ONE, [*expected, "unknown"]), expected)
    assert store.problem is other.problem is None


def test_key_is_model_templates_and_word(bundle: Bundle, tmp_path: Path) -> None:
    """Other templates, another model or another word find nothing."""
    store = TextStore(bundle, folder=tmp_path)
    store.write(ONE, features_of(["dog"]))
    assert store.read(TWO, ["dog"]) == {}
    assert store.read(ONE, ["Dog"]) == {}
    other = TextStore(bundle, folder=tmp_path)
    other._model = "0" * 64
    assert other.read(ONE, ["dog"]) == {}


def test_features_come_from_the_store(bundle: Bundle, tmp_path: Path) -> None:
    """A second run encodes nothing and gets the same bits."""
    backend, tokenizer = OrtBackend(bundle), bundle.tokenizer()
    words = ["dog", "cat", "sky"]
    store = TextStore(bundle, folder=tmp_path)
    first = TextFeatures(backend, tokenizer, templates="default", store=store)(words)
    again = TextFeatures(None, tokenizer, templates="default", store=store)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again(words[::-1]), first[::-1])


def write_and_read(folder: Path, number: int) -> None:
    """A process of the test below: writes and reads words that all processes share."""
    bundle = open_model("atas-tiny")
    for round_ in range(5):
        store = TextStore(bundle, folder=folder)
        expected = features_of([f"word {i}" for i in range(40 * round_ + 40)])
        store.write(ONE, expected)
        assert_equal(store.read(ONE, list(expected)), expected)
        assert store.problem is None, (number, store.problem)


def test_four_processes(bundle: Bundle, tmp_path: Path) -> None:
    """Processes that create, write and read one cache at once neither fail nor mix it up."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_and_read, args=(tmp_path, i)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    expected = features_of([f"word {i}" for i in range(200)])
    assert_equal(TextStore(bundle, folder=tmp_path).read(ONE, list(expected)), expected)


def test_threads(bundle: Bundle, tmp_path: Path) -> None:
    """One store serves several threads."""
    store = TextStore(bundle, folder=tmp_path)
    expected = features_of([f"word {i}" for i in range(50)])
    failures: list[str] = []

    def work() -> None:
        for _ in range(5):
            store.write(ONE, expected)
            if store.read(ONE, list(expected)).keys() != expected.keys():
                failures.append("missing")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, store.problem) == ([], None)


def test_damaged_file(bundle: Bundle, tmp_path: Path) -> None:
    """Bytes that are no database are left alone; the run goes on and knows why."""
    store = TextStore(bundle, folder=tmp_path)
    store.write(ONE, features_of(["dog"]))
    file_of(tmp_path).write_bytes(b"not a database at all" * 100)
    store = TextStore(bundle, folder=tmp_path)
    assert store.read(ONE, ["dog"]) == {}
    assert store.problem is not None
    assert "cannot be read" in store.problem
    store.write(ONE, features_of(["dog"]))
    assert file_of(tmp_path).read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("seed", range(12))
def test_bit_flips(bundle: Bundle, tmp_path: Path, seed: int) -> None:
    """A file with flipped bytes gives right features, or none; never an exception."""
    expected = features_of([f"word {i}" for i in range(60)])
    TextStore(bundle, folder=tmp_path).write(ONE, expected)
    file = file_of(tmp_path)
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data) if seed % 2 else 4_096, 40):
        data[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(data[: len(data) // (1 + seed % 3)])
    store = TextStore(bundle, folder=tmp_path)
    for vector in store.read(ONE, list(expected)).values():
        assert abs(np.linalg.norm(vector) - 1) < 2e-3
    store.write(ONE, expected)


def test_wrong_values_are_not_used(bundle: Bundle, tmp_path: Path) -> None:
    """Another width, NaN, infinity, another length and text are as good as missing."""
    good = features_of(["good"])["good"]
    bad = {
        "short": good[:100],
        "nan": np.full(256, np.nan, np.float32),
        "inf": np.full(256, np.inf, np.float32),
        "huge": np.full(256, 3e38, np.float32),
        "long": 2 * good,
    }
    store = TextStore(bundle, folder=tmp_path)
    store.write(ONE, bad | {"good": good, "text": good})
    key = store._keys(ONE, ["text"])["text"]
    with sqlite3.connect(file_of(tmp_path)) as connection:
        connection.execute("UPDATE features SET value = 'words' WHERE key = ?", [key])
    connection.close()
    assert list(store.read(ONE, [*bad, "text", "good"])) == ["good"]
    store.write(ONE, {"text": good})
    assert list(store.read(ONE, ["text"])) == ["text"]


def test_foreign_database(bundle: Bundle, tmp_path: Path) -> None:
    """A database of another program is not touched."""
    TextStore(bundle, folder=tmp_path).write(ONE, features_of(["dog"]))
    file = file_of(tmp_path)
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = file.read_bytes()
    store = TextStore(bundle, folder=tmp_path)
    store.write(ONE, features_of(["dog"]))
    assert "another program" in str(store.problem)
    assert file.read_bytes() == before


def test_folder_that_cannot_be(bundle: Bundle, tmp_path: Path) -> None:
    """A folder below a file cannot be made: the features are encoded anyway."""
    (tmp_path / "file").write_text("")
    store = TextStore(bundle, folder=tmp_path / "file" / "cache")
    features = TextFeatures(OrtBackend(bundle), bundle.tokenizer(), templates=ONE, store=store)
    assert features(["dog"]).shape == (1, 256)
    assert store.problem is not None
    assert "ATAS_DEPLOY_CACHE" in store.problem


def test_locked_for_long(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the file for ever stops no other."""
    monkeypatch.setattr("atas_deploy.runtime.text_store._TIMEOUT", 0.05)
    TextStore(bundle, folder=tmp_path).write(ONE, features_of(["dog"]))
    blocker = sqlite3.connect(file_of(tmp_path), isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    store = TextStore(bundle, folder=tmp_path)
    assert store.read(ONE, ["dog"]) == {}
    assert "locked" in str(store.problem)
    blocker.close()


def test_read_only_cache_is_read(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that cannot be written, as in a container, still serves."""
    expected = features_of(["dog"])
    TextStore(bundle, folder=tmp_path).write(ONE, expected)
    real = sqlite3.connect

    def read_only(file: Path, **options: object) -> sqlite3.Connection:
        return real(f"file:{file}?mode=ro", uri=True, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", read_only)  # root may write anywhere
    store = TextStore(bundle, folder=tmp_path)
    assert_equal(store.read(ONE, ["dog"]), expected)
    store.write(ONE, features_of(["cat"]))
    assert "readonly" in str(store.problem)
    assert_equal(store.read(ONE, ["dog"]), expected)


def test_size_is_bounded(bundle: Bundle, tmp_path: Path) -> None:
    """Beyond the limit the oldest words go; the latest stay."""
    limit = 200_000
    store = TextStore(bundle, folder=tmp_path, max_bytes=limit)
    for start in range(0, 600, 30):
        store.write(ONE, features_of([f"word {i}" for i in range(start, start + 30)]))
    assert file_of(tmp_path).stat().st_size < 1.5 * limit
    found = store.read(ONE, [f"word {i}" for i in range(600)])
    assert 50 < len(found) < 200
    assert {f"word {i}" for i in range(570, 600)} <= found.keys()
    assert "word 0" not in found
    assert store.problem is None


def test_default_folder(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder the user's cache is used."""
    monkeypatch.setenv("ATAS_DEPLOY_CACHE", str(tmp_path / "cache"))
    TextStore(bundle).write(ONE, features_of(["dog"]))
    assert file_of(tmp_path / "cache").is_file()
