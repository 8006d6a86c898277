"""`atas-deploy classify` on pictures: kinds of regions, tables, overlays, refusals, bad files."""

import csv
import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from atas_deploy.cli.classify_options import classify_options
from atas_deploy.cli.main import main
from atas_deploy.core.region import Region
from atas_deploy.runtime.regions import RegionClassifier
from atas_deploy.runtime.regions.classifier import EMBEDS

FAST = ("--short-side", "64", "--classes", "sky,tree,dog", "--no-cache")
BOXES = [(5.0, 4.0, 40.0, 30.0), (30.0, 10.0, 70.0, 55.0)]


def classify(*args: object) -> Result:
    """Run the command with a small encoder input."""
    return CliRunner().invoke(main, ["classify", *FAST, *map(str, args)])


def photo(path: Path, *, seed: int = 0, size: tuple[int, int] = (60, 80)) -> Path:
    """Write a picture of coarse noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    """The lines of regions.csv."""
    with (out / "regions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results_of(out: Path) -> list[dict[str, Any]]:
    """The rows of coco_results.json."""
    rows: list[dict[str, Any]] = json.loads((out / "coco_results.json").read_text())
    return rows


def table(path: Path, *rows: str) -> Path:
    """Write a CSV table of boxes."""
    path.write_text("\n".join(["image,x0,y0,x1,y1", *rows]) + "\n")
    return path


def corners(name: str) -> list[str]:
    """Rows of a table: the two boxes in a picture."""
    return [f"{name},{','.join(map(str, box))}" for box in BOXES]


def dataset(path: Path, names: list[str], *, masks: bool = False) -> Path:
    """Write a COCO data set with odd numbers: two regions in each picture."""
    images = [
        {"id": 1000 + 7 * i, "file_name": name, "height": 60, "width": 80}
        for i, name in enumerate(names)
    ]
    annotations = []
    for image in images:
        for x0, y0, x1, y1 in BOXES:
            row = {"id": 501 + 11 * len(annotations), "image_id": image["id"], "category_id": 3}
            row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            if masks:
                row["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            annotations.append(row | {"iscrowd": 0})
    names_of = [{"id": number, "name": name} for number, name in ((3, "dog"), (9, "cat"))]
    content = {"images": images, "annotations": annotations, "categories": names_of}
    path.write_text(json.dumps(content))
    return path


def test_boxes_are_named_as_by_the_classifier(tmp_path: Path) -> None:
    """The table has each region with all its names and scores, as `RegionClassifier` has them."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    boxes = table(tmp_path / "boxes.csv", *corners("a.png"))
    result = classify(source, "--boxes", boxes, "--out", out)
    assert result.exit_code == 0, result.output
    classifier = RegionClassifier(classes="sky,tree,dog", short_side=64, cache=False)
    expected = classifier(source, [Region(box=box) for box in BOXES])
    rows = rows_of(out)
    assert len(rows) == 2
    for i, row in enumerate(rows):
        assert (row["source"], row["region"], row["frame"]) == (str(source), str(i + 1), "")
        assert tuple(float(row[key]) for key in ("x0", "y0", "x1", "y1")) == BOXES[i]
        names = [row["name"], row["name_2"], row["name_3"]]
        assert names == [expected.name(i, rank) for rank in range(3)]
        scores = [float(row[key]) for key in ("score", "score_2", "score_3")]
        assert scores == pytest.approx(expected.scores[i].tolist(), abs=1e-4)
    assert float(rows[0]["area"]) == 35 * 26
    with Image.open(out / "a.overlay.jpg") as overlay:
        assert overlay.size == (80, 60)


def test_the_overlay_shows_the_boxes(tmp_path: Path) -> None:
    """The border of a box has the colour of its class; away from boxes the picture stays."""
    source, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(np.full((120, 160, 3), 128, np.uint8)).save(source)
    boxes = table(tmp_path / "boxes.csv", "a.png,20,20,90,90")
    assert classify(source, "--boxes", boxes, "--out", out).exit_code == 0
    (row,) = rows_of(out)
    color = {"sky": (15, 185, 255), "tree": (236, 178, 0), "dog": (192, 47, 125)}[row["name"]]
    with Image.open(out / "a.overlay.jpg") as picture:
        overlay = np.asarray(picture).astype(int)
    assert np.abs(overlay[89, 30:80] - color).max() < 60  # JPEG
    assert np.abs(overlay[110:, 110:] - 128).max() < 6


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_coco_numbers_are_those_of_the_file(tmp_path: Path, masks: bool) -> None:
    """COCO results are read by pycocotools for the very data set, each beside its annotation."""
    for name in ("b.png", "a.png"):
        photo(tmp_path / "in" / name)
    truth = dataset(tmp_path / "truth.json", ["b.png", "a.png"], masks=masks)
    kind = "--masks" if masks else "--boxes"
    result = classify(tmp_path / "in", kind, truth, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    known = COCO(truth)
    found = known.loadRes(str(tmp_path / "out" / "coco_results.json"))
    assert set(found.getImgIds()) == {1000, 1007}
    rows = results_of(tmp_path / "out")
    assert {row["id"] for row in rows} == set(known.getAnnIds())
    for row in rows:
        annotation = known.anns[row["id"]]
        assert row["image_id"] == annotation["image_id"]
        assert 1 <= row["category_id"] <= 3
        if masks:
            np.testing.assert_array_equal(
                rle.decode(row["segmentation"]), known.annToMask(annotation)
            )
        else:
            assert row["bbox"] == annotation["bbox"]
    assert sorted(int(row["area"]) for row in found.anns.values()) == [910, 910, 1800, 1800]
    assert {row["given"] for row in rows_of(tmp_path / "out")} == {"dog"}
    numbers = {(row["image_id"], row["region"]) for row in rows_of(tmp_path / "out")}
    assert numbers == {(str(row["image_id"]), str(row["id"])) for row in rows}


def test_label_png(tmp_path: Path) -> None:
    """Each value of a label PNG is a region; its area is in the table."""
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 5:25], labels[40:60, 50:80] = 4, 9
    (tmp_path / "masks").mkdir()
    Image.fromarray(labels).save(tmp_path / "masks" / "a.png")
    source = photo(tmp_path / "a.png")
    result = classify(source, "--masks", tmp_path / "masks", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [float(row["area"]) for row in rows_of(tmp_path / "out")] == [400, 600]
    (first, second) = results_of(tmp_path / "out")
    assert "bbox" not in first
    np.testing.assert_array_equal(rle.decode(second["segmentation"]), labels == 9)


def test_yolo_folder(tmp_path: Path) -> None:
    """A folder of YOLO text beside the names of the pictures, sizes as shares."""
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "labels" / "b.txt").write_text("1 0.25 0.5 0.25 0.5\n0 0.5 0.5 1 1\n")
    out = tmp_path / "out"
    assert classify(tmp_path / "in", "--boxes", tmp_path / "labels", "--out", out).exit_code == 0
    assert [Path(row["source"]).name for row in rows_of(out)] == ["a.png", "b.png", "b.png"]
    assert [row["x0"] for row in rows_of(out)] == ["20", "10", "0"]


def test_grid(tmp_path: Path) -> None:
    """N x N boxes cover the picture; a generic background competes."""
    source, out = photo(tmp_path / "0042.png"), tmp_path / "out"
    result = classify(source, "--grid", "4", "--out", out, "--top", "2")
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    assert [(row["x0"], row["y0"]) for row in rows[:5]] == [
        ("0", "0"),
        ("20", "0"),
        ("40", "0"),
        ("60", "0"),
        ("0", "15"),
    ]
    assert sum(float(row["area"]) for row in rows) == 60 * 80
    assert list(rows[0])[-4:] == ["name", "score", "name_2", "score_2"]
    assert {row["image_id"] for row in rows} == {"42"}
    assert json.loads((out / "run.json").read_text())["settings"]["background"]["rule"] == "auto"


def test_proposals(tmp_path: Path) -> None:
    """Proposals are masks, each with its run lengths and its area."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    result = classify(source, "--proposals", "auto", "--background", "none", "--out", out)
    assert result.exit_code == 0, result.output
    rows, found = rows_of(out), results_of(out)
    assert len(rows) == len(found) > 0
    assert [float(row["area"]) for row in rows] == [
        float(rle.area(row["segmentation"])) for row in found
    ]


def test_background_is_in_the_table_only(tmp_path: Path) -> None:
    """A region below the threshold is background in the table, and not in COCO's results."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    boxes = table(tmp_path / "boxes.csv", *corners("a.png"))
    result = classify(source, "--boxes", boxes, "--out", out, "--threshold", "1", "--json")
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in rows_of(out)] == ["background"] * 2
    assert results_of(out) == []
    summary = json.loads(result.stdout)
    assert (summary["regions"], summary["background"]) == (2, 2)


@pytest.mark.parametrize("embed", EMBEDS)
def test_embeddings(tmp_path: Path, embed: str) -> None:
    """Dense features, crops and both give the names that the classifier gives."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    boxes = table(tmp_path / "boxes.csv", *corners("a.png"))
    settings: dict[str, Any] = {"embed": embed}
    settings |= {"crop_scale": 1.5} if embed != "dense" else {}
    settings |= {"crop_weight": 0.3} if embed == "both" else {}
    options = [(f"--{name.replace('_', '-')}", value) for name, value in settings.items()]
    result = classify(source, "--boxes", boxes, "--out", out, *chain(*options))
    assert result.exit_code == 0, result.output
    classifier = RegionClassifier(classes="sky,tree,dog", short_side=64, cache=False, **settings)
    expected = classifier(source, [Region(box=box) for box in BOXES])
    scores = [float(row["score"]) for row in rows_of(out)]
    assert scores == pytest.approx(expected.scores[:, 0].tolist(), abs=1e-4)
    recorded = json.loads((out / "run.json").read_text())["settings"]
    assert recorded["embed"] == embed
    assert recorded["crop_scale"] == (None if embed == "dense" else 1.5)


def test_choices_of_embed() -> None:
    """The help offers what the classifier knows."""

    @classify_options
    def probe() -> None: ...

    options = {option.name: option for option in probe.__click_params__}  # type: ignore[attr-defined]
    assert tuple(options["embed"].type.choices) == EMBEDS


def test_summary(tmp_path: Path) -> None:
    """--json prints counts and classes; pictures without regions are counted, and fine."""
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    boxes = table(tmp_path / "boxes.csv", *corners("a.png"))
    args = [tmp_path / "in", "--boxes", boxes, "--out", tmp_path / "out"]
    result = classify(*args, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["regions"], summary["without"]) == (2, 2, 1)
    assert sum(row["regions"] for row in summary["classes"]) == 2
    assert not (tmp_path / "out" / "b.overlay.jpg").exists()
    said = classify(*args, "--force")
    assert said.stdout.startswith("2 of 2 inputs: 2 regions named into")
    assert said.stdout.endswith("(none in 1 picture)\n")


def test_quiet_and_no_overlay(tmp_path: Path) -> None:
    """-q prints nothing, --no-overlay writes tables only."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    result = classify(source, "--grid", "2", "--out", out, "-q", "--no-overlay")
    assert (result.exit_code, result.output) == (0, "")
    written = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert written == {"regions.csv", "coco_results.json", "run.json"}


def test_partial_failure(tmp_path: Path) -> None:
    """A damaged picture and one whose annotations do not fit are named; the others are done."""
    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "d.png").write_bytes(b"no picture")
    photo(tmp_path / "in" / "b.png", size=(30, 30))  # not as annotated
    truth = dataset(tmp_path / "truth.json", ["a.png", "b.png", "c.png", "d.png"])
    out = tmp_path / "out"
    result = classify(tmp_path / "in", "--boxes", truth, "--out", out)
    assert result.exit_code == 1
    errors = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert len(errors) == 2
    assert any("d.png" in line for line in errors)
    assert any("truth.json" in line and "b.png" in line for line in errors)
    assert [Path(row["source"]).name for row in rows_of(out)] == ["a.png"] * 2 + ["c.png"] * 2
    record = json.loads((out / "run.json").read_text())
    assert (record["complete"], record["counts"]["failed"]) == (False, 2)


def test_annotated_pictures_that_are_no_input(tmp_path: Path) -> None:
    """Where an input has none, names differ: one sentence at the end, exit code 1, all is done."""
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    boxes = table(tmp_path / "boxes.csv", *corners("a.png"), *corners("elsewhere.png"))
    result = classify(tmp_path / "in", "--boxes", boxes, "--out", tmp_path / "out")
    assert result.exit_code == 1
    (error,) = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert "boxes.csv" in error
    assert "elsewhere.png" in error
    assert len(rows_of(tmp_path / "out")) == 2
    assert json.loads((tmp_path / "out" / "run.json").read_text())["complete"] is False


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.json", '{"images": [', "cut.json"),
        ("other.json", '{"a": 1}', "other.json"),
        ("boxes.csv", "image,x0,y0,x1,y1\na.png,5,5,x,20\n", "line 2"),
        ("boxes.csv", "image,x0,y0,x1,y1\na.png,5,5,2,20\n", "line 2"),
        ("boxes.csv", "name\n", "boxes.csv"),
        ("boxes.doc", "", "boxes.doc"),
    ],
)
def test_bad_files_of_regions(tmp_path: Path, name: str, content: str, said: str) -> None:
    """One sentence that names the file, or the entry; nothing is written."""
    (tmp_path / name).write_text(content)
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    result = classify(source, "--boxes", tmp_path / name, "--out", out)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert said in result.output
    assert sum(line.startswith("Error") for line in result.output.splitlines()) == 1
    assert not out.exists()


def test_a_box_outside_is_named(tmp_path: Path) -> None:
    """A box that lies outside of its picture spoils that picture only."""
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    boxes = table(tmp_path / "boxes.csv", "a.png,200,200,300,300", *corners("b.png"))
    result = classify(tmp_path / "in", "--boxes", boxes, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "line 2" in result.output
    assert "outside" in result.output
    assert {Path(row["source"]).name for row in rows_of(tmp_path / "out")} == {"b.png"}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "exactly one of"),
        (["--grid", "2", "--proposals", "auto"], 2, "--grid and --proposals"),
        (["--grid", "0"], 2, "--grid"),
        (["--proposals", "all"], 2, "auto"),
        (["--boxes", "missing.json"], 1, "missing.json"),
        (["--grid", "2", "--embed", "mask"], 2, "'crop'"),
        (["--grid", "2", "--crop-weight", "2"], 2, "crop-weight"),
        (["--grid", "2", "--crop-weight", "0.5"], 2, "--embed both"),
        (["--grid", "2", "--embed", "crop", "--crop-weight", "0.5"], 2, "--embed both"),
        (["--grid", "2", "--crop-scale", "1.5"], 2, "--embed crop or both"),
        (["--grid", "2", "--top", "0"], 2, "top"),
        (["--grid", "2", "--device", "tpu"], 2, "Unknown device"),
        (["--grid", "2", "--model", "nope"], 2, "Unknown model"),
        (["--grid", "2", "--start", "5", "--end", "2"], 2, "before the end"),
        (["--grid", "2", "--out", "photo.png"], 1, "photo.png"),
    ],
)
def test_bad_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    message: str,
) -> None:
    """One sentence, no traceback, exit code 1, or 2 for wrong usage."""
    monkeypatch.chdir(tmp_path)
    result = classify(photo(tmp_path / "photo.png"), *args)
    assert result.exit_code == code
    assert message in result.output
    assert isinstance(result.exception, SystemExit)


def test_force(tmp_path: Path) -> None:
    """A second run is refused and changes nothing; with --force it replaces the results."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert classify(source, "--grid", "2", "--out", out).exit_code == 0
    before = (out / "regions.csv").read_bytes()
    refused = classify(source, "--grid", "3", "--out", out)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert (out / "regions.csv").read_bytes() == before
    assert classify(source, "--grid", "3", "--out", out, "--force").exit_code == 0
    assert len(rows_of(out)) == 9


@pytest.mark.parametrize("change", ["no overlay", "no regions", "unreadable"])
def test_force_leaves_no_overlay_of_the_run_before(tmp_path: Path, change: str) -> None:
    """One that does not belong to the new tables is gone; overlays of other pictures stay."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert classify(source, photo(tmp_path / "b.png"), "--grid", "2", "--out", out).exit_code == 0
    options: list[object] = ["--grid", "2"]
    match change:
        case "no overlay":
            options.append("--no-overlay")
        case "no regions":
            options = ["--boxes", table(tmp_path / "boxes.csv", *corners("b.png"))]
        case _:
            source.write_bytes(b"no picture")
    classify(source, *options, "--out", out, "--force")
    assert not (out / "a.overlay.jpg").exists()
    assert (out / "b.overlay.jpg").exists()


def test_the_file_of_regions_is_never_replaced(tmp_path: Path) -> None:
    """Boxes that have the name of a result are refused, even with --force."""
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    boxes = table(out / "regions.csv", *corners("a.png"))
    before = boxes.read_bytes()
    result = classify(source, "--boxes", boxes, "--out", out, "--force")
    assert result.exit_code == 2
    assert boxes.read_bytes() == before


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    """A picture that lies where an overlay would go fails, and stays."""
    out = tmp_path / "out"
    first, second = photo(tmp_path / "a.png"), photo(out / "a.overlay.jpg")
    before = second.read_bytes()
    result = classify(first, second, "--grid", "2", "--out", out, "--force")
    assert result.exit_code == 1
    assert second.read_bytes() == before
    assert (
        classify(first, second, "--grid", "2", "--out", out, "--force", "--no-overlay").exit_code
        == 0
    )
    assert second.read_bytes() == before


@pytest.mark.parametrize("name", ["coco_results.json", "regions.csv"])
def test_results_of_an_earlier_run_are_read_again(tmp_path: Path, name: str) -> None:
    """Both tables are files of boxes, too: in COCO's pictures are known by their numbers."""
    source = photo(tmp_path / "17.png")
    options = ["--grid", "2", "--background", "none", "--out", tmp_path / "a"]
    assert classify(source, *options).exit_code == 0
    result = classify(source, "--boxes", tmp_path / "a" / name, "--out", tmp_path / "b")
    assert result.exit_code == 0, result.output
    keys = ("x0", "y0", "x1", "y1", "name", "score")
    first, second = (
        [[row[key] for key in keys] for row in rows_of(tmp_path / run)] for run in "ab"
    )
    assert first == second


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are UTF-8 there")
def test_odd_names(tmp_path: Path) -> None:
    """Commas, quotes, line breaks and bytes that are no UTF-8 make valid tables."""
    folder = tmp_path / "in"
    photo(folder / 'a,"b"\n.png')
    os.rename(photo(folder / "x.png"), os.fsencode(folder) + b"/\xff.png")  # noqa: PTH104
    result = classify(folder, "--grid", "1", "--background", "none", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    names = [Path(row["source"]).name for row in rows_of(tmp_path / "out")]
    assert names == ['a,"b"\n.png', "\\udcff.png"]
    assert len(results_of(tmp_path / "out")) == 2


def test_no_torch(tmp_path: Path) -> None:
    """A run imports neither torch nor matplotlib."""
    source = photo(tmp_path / "a.png")
    args = ["classify", *FAST, str(source), "--proposals", "auto", "--out", str(tmp_path / "out")]
    run = (
        "import sys; from atas_deploy.cli.main import main; "
        f"main({args!r}, standalone_mode=False); "
        "assert not {'torch', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_regions_of_which_nothing_can_be_seen(tmp_path: Path) -> None:
    """They are told, with exit code 1; the others of the picture are named."""
    photo(tmp_path / "a.png")
    flat, outside = "a.png,5,5,30,5", "a.png,90,5,99,30"
    boxes = table(tmp_path / "boxes.csv", flat, *corners("a.png"), outside)
    out = tmp_path / "out"
    result = classify(tmp_path / "a.png", "--boxes", boxes, "--out", out, "--json")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert [f"boxes.csv: line {n} has" in line for n, line in zip((2, 5), errors, strict=True)]
    assert len(rows_of(out)) == 2
    summary = json.loads(result.stdout)
    assert (summary["left_out"], summary["regions"], summary["complete"]) == (2, 2, False)
    assert [f"Error: {sentence}" for sentence in summary["faults"]] == errors
    assert json.loads((out / "run.json").read_text())["counts"]["left_out"] == 2
