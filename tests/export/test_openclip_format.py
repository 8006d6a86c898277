"""A folder for open_clip is loaded by open_clip, here by its own functions alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from atas_deploy.clip.model import ClipModel, build_model, with_preprocessing
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.clip.weights import load_model
from atas_deploy.core.errors import ExportError, OutputError, ParityError
from atas_deploy.export import openclip_format
from atas_deploy.export.openclip_format import export_openclip

TEXT = {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP2", "tokenizer_kwargs": {"clean": "lower"}}


@pytest.fixture(scope="module")
def folder(model: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is exported; tests must not change it."""
    out = tmp_path_factory.mktemp("openclip") / "tiny"
    export_openclip(model, out)
    return out


def test_open_clip_computes_what_we_compute(folder: Path, model: ClipModel) -> None:
    """Pictures go through open_clip's own transform, words through its own tokenizer class."""
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.SimpleTokenizer(
        bpe_path=str(folder / "tokenizer/merges.txt.gz"), context_length=16
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = transform.transforms[-1](torch.from_numpy(image).permute(2, 0, 1) / 255)[None]
    graph = ImageGraph(DenseViT(model.model.visual, "sclip"), mean=model.mean, std=model.std)
    words = ["a photo of a dog.", "grass"]
    with torch.inference_mode():
        got = theirs.eval().encode_image(pixels, normalize=True)
        expected = graph.eval()(torch.from_numpy(image)[None])[1]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
        got = theirs.encode_text(tokenizer(words), normalize=True)
        ours = torch.from_numpy(model.tokenizer()(words))
        torch.testing.assert_close(got, TextEncoder(model.model)(ours), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["eva", "siglip"])
def test_other_families(
    family_config: Callable[[str], dict[str, Any]], family: str, tmp_path: Path
) -> None:
    """Towers of timm and SigLIP's text tower and bias come back, bit for bit."""
    torch.manual_seed(0)
    config = with_preprocessing({"model_cfg": family_config(family)})
    config["model_cfg"]["text_cfg"]["vocab_size"] = 49408
    clip = ClipModel(
        model=build_model(config),
        config=config,
        name=family,
        tokenizer_file=Path(open_clip.tokenizer.default_bpe()),
    )
    assert export_openclip(clip, tmp_path / "out") <= openclip_format.LARGEST_DIFFERENCE
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").state_dict()
    assert all(torch.equal(theirs[name], t) for name, t in clip.model.state_dict().items())
    assert 'open_clip.get_tokenizer("local-dir:FOLDER")' in (tmp_path / "out/README.md").read_text()


def test_what_goes_along(folder: Path) -> None:
    """Weights in float32, licence text, record and a card that tells how to make the tokenizer."""
    state = load_file(folder / "open_clip_model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert (folder / "LICENSE-weights.txt").read_text() == "Free."
    card = (folder / "README.md").read_text()
    assert "Licence: CC0-1.0" in card
    assert 'open_clip.SimpleTokenizer(bpe_path="FOLDER/tokenizer/merges.txt.gz"' in card
    assert json.loads((folder / "training.json").read_text())["exported"]["format"] == "openclip"


def test_we_read_it_again(folder: Path, model: ClipModel) -> None:
    """The folder is a model of ours, too, with its licence."""
    loaded = load_model(folder)
    assert (loaded.name, loaded.record["license"]) == ("tiny", "CC0-1.0")
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], t) for name, t in model.model.state_dict().items())


def test_foreign_tokenizer_lies_where_open_clip_looks(
    family_config: Callable[[str], dict[str, Any]],
    write_tokenizer: dict[str, Callable[[Path], Path]],
    tmp_path: Path,
) -> None:
    """Beside the weights, with what transformers must know, even if only settings were kept."""
    config = with_preprocessing({"model_cfg": family_config("siglip")})
    config["model_cfg"]["text_cfg"] |= TEXT | {"vocab_size": 300}
    clip = ClipModel(
        model=build_model(config),
        config=config,
        name="words",
        tokenizer_file=write_tokenizer["gemma"](tmp_path / "source"),
    )
    export_openclip(clip, tmp_path / "first")
    notes = json.loads((tmp_path / "first/tokenizer_config.json").read_text())
    assert notes == {"pad_token": "<pad>", "eos_token": "<eos>", "add_eos_token": True}
    kept = tmp_path / "first/tokenizer/tokenizer.json"
    export_openclip(replace(clip, tokenizer_file=kept), tmp_path / "second")
    assert (tmp_path / "second/tokenizer.json").read_bytes() == kept.read_bytes()
    notes = json.loads((tmp_path / "second/tokenizer_config.json").read_text())
    assert notes == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "padding_side": "right",
    }


def test_changed_weights_fail(
    model: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of one tensor on the disk is a failed export that leaves nothing."""
    write = openclip_format.write_model

    def damage(folder: Path, clip: ClipModel, **settings: Any) -> None:
        write(folder, clip, **settings)
        path = folder / "open_clip_model.safetensors"
        state = load_file(path)
        state["ln_final.weight"].view(torch.int32)[3] ^= 1
        save_file(state, path)

    monkeypatch.setattr(openclip_format, "write_model", damage)
    with pytest.raises(ParityError, match=r"ln_final\.weight is not the same"):
        export_openclip(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_arithmetic_fails(model: ClipModel, tmp_path: Path) -> None:
    """Equal weights under another activation are found by the features."""
    config = json.loads(json.dumps(dict(model.config)))
    config["model_cfg"]["quick_gelu"] = False
    with pytest.raises(ParityError, match=r"class token that open_clip computes .* limit 1e-06"):
        export_openclip(replace(model, config=config), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_folder_that_open_clip_refuses(model: ClipModel, tmp_path: Path) -> None:
    """Its reason is told in one sentence."""
    config = json.loads(json.dumps(dict(model.config)))
    config["model_cfg"]["vision_cfg"]["colour"] = 1
    with pytest.raises(ExportError, match="cannot load the folder"):
        export_openclip(replace(model, config=config), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_only_its_own_folders_are_replaced(model: ClipModel, folder: Path, tmp_path: Path) -> None:
    """A run of training holds the same files and more, which --force must not take."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "training.json").write_text('{"name": "run"}')
    with pytest.raises(OutputError, match="is not a folder of this command"):
        export_openclip(model, run, force=True)
    with pytest.raises(OutputError, match="add --force"):
        export_openclip(model, folder)
    out = tmp_path / "out"
    export_openclip(model, out)
    (out / "stale").touch()
    export_openclip(model, out, force=True, license_id="MIT")
    assert not (out / "stale").exists()
    assert "Licence: MIT" in (out / "README.md").read_text()
