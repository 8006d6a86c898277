"""Finding and loading weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import load_file, save_file

from atas_deploy.clip import hub
from atas_deploy.clip.model import build_model
from atas_deploy.clip.weights import load_model
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.core.hf_tokenizer import find_settings

WEIGHTS = "open_clip_model.safetensors"


def test_half_precision_folder_is_loaded_in_float32(folder: Path) -> None:
    """Stored float16 weights arrive unchanged, as float32, in a model that is in eval mode."""
    loaded = load_model(folder)
    stored = load_file(folder / WEIGHTS)
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[name].float())
    assert not loaded.model.training
    assert (loaded.name, loaded.mean, loaded.std) == ("tiny", (0.5,) * 3, (0.2,) * 3)
    assert loaded.architecture == "ViT-3x32/16"


def test_training_record_is_read(folder: Path) -> None:
    """What training recorded names the model and tells where it comes from."""
    record = {"name": "mine", "readout": "maskclip", "license": "CC0-1.0", "images": 12}
    (folder / "training.json").write_text(json.dumps(record))
    loaded = load_model(folder)
    assert loaded.name == "mine"
    assert loaded.record["readout"] == "maskclip"
    assert loaded.record["provenance"]["images"] == 12


def test_folder_loads_into_plain_open_clip(folder: Path) -> None:
    """What we save is an ordinary open_clip folder."""
    model = open_clip.create_model(f"local-dir:{folder}")
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(
        model.eval().encode_image(pixels), load_model(folder).model.encode_image(pixels)
    )


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_every_family_loads_into_plain_open_clip(
    family: str, family_folder: Callable[[str], Path]
) -> None:
    """As a folder and as a bare file, open_clip computes the same features from what we write."""
    folder = family_folder(family)
    ours = load_model(folder).model
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.randint(1, 500, (2, 16))
    from_folder = open_clip.create_model(f"local-dir:{folder}").eval()
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    from_file = build_model({"model_cfg": config})
    open_clip.load_checkpoint(from_file, str(folder / WEIGHTS))
    with torch.inference_mode():
        for theirs in (from_folder, from_file):
            for name, given in (("encode_image", pixels), ("encode_text", tokens)):
                got, expected = getattr(theirs, name)(given), getattr(ours, name)(given)
                torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def drop(state: dict[str, torch.Tensor]) -> None:
    """Remove a tensor."""
    del state["visual.proj"]


def rename(state: dict[str, torch.Tensor]) -> None:
    """Give a tensor another name."""
    state["visual.extra"] = state["visual.proj"].clone()


def reshape(state: dict[str, torch.Tensor]) -> None:
    """Give a tensor another shape."""
    state["visual.proj"] = torch.zeros(3, 4)


def spoil(state: dict[str, torch.Tensor]) -> None:
    """Let one number diverge."""
    state["visual.proj"][3, 4] = float("nan")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (spoil, "NaN or infinity in 1 tensors, such as visual.proj"),
        (drop, "visual.proj is missing"),
        (rename, "visual.extra is unknown"),
        (reshape, r"visual.proj has shape \[3, 4\], expected \[32, 24\]"),
    ],
)
def test_weights_that_do_not_fit(
    folder: Path, damage: Callable[[dict[str, torch.Tensor]], None], reason: str
) -> None:
    """A message names a tensor that differs and how."""
    state = load_file(folder / WEIGHTS)
    damage(state)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=reason):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_unreadable_weights(folder: Path, content: bytes | None) -> None:
    """Empty, damaged and missing files give one sentence."""
    (folder / WEIGHTS).unlink() if content is None else (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="Cannot read the weights"):
        load_model(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"model_cfg": [1]}',
        '{"model_cfg": {"embed_dim": 8}}',
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": null, "text_cfg": {}}}',
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}, "preprocess_cfg": 1}',
    ],
)
def test_bad_configuration(folder: Path, content: str) -> None:
    """A file that is no open_clip configuration is named."""
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json"):
        load_model(folder)


def test_impossible_architecture(folder: Path) -> None:
    """open_clip's reason is passed on."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["vision_cfg"]["colour"] = "red"
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="colour"):
        load_model(folder)


def test_tokenizer_of_another_model(folder: Path) -> None:
    """A tokenizer with another number of tokens would give wrong words."""
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["vocab_size"] = 900
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = load_file(folder / WEIGHTS)
    state["token_embedding.weight"] = torch.zeros(900, 32)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"814 tokens.*900"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ViT-B-16", "sets of weights.*ViT-B-16/openai.*ViT-B-16/FILE"),
        ("ViT-B-16/runs/epoch_5.pt", r"no file .* or runs/epoch_5\.pt"),
        ("ViT-B-16/opnai", 'no weights "opnai".*ViT-B-16/openai'),
        ("ViT-B16/openai", "did you mean ViT-B-16/openai"),
        ("https://host/weights.pt", "is an address"),
        ("hf-hub:foo/bar baz", "ORGANISATION/REPOSITORY"),
        ("hf-hub:foo/bar--baz", "ORGANISATION/REPOSITORY"),
        ("missing/folder", 'no such file or folder.*"missing"'),
        ("", "no such file or folder"),
        ("x" * 5000, "no such file or folder"),
        ("RN50/openai", "ResNet.*such as ViT-B-16/openai"),
        ("convnext_base/laion400m_s13b_b51k", "ConvNeXt"),
        ("roberta-ViT-B-32/laion2b_s12b_b32k", "Hugging Face transformers"),
        ("hf-hub:", "ORGANISATION/REPOSITORY"),
        ("hf-hub:nonsense", "ORGANISATION/REPOSITORY"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", "CoCa"),
    ],
)
def test_names_that_cannot_be_loaded(name: str, reason: str) -> None:
    """Unknown and unsupported names are refused before anything is fetched."""
    with pytest.raises(ConfigError, match=reason):
        load_model(name)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    """An empty folder says what is expected, one with checkpoints how to name them."""
    with pytest.raises(ConfigError, match=r"manifest\.json.*open_clip_config\.json"):
        load_model(tmp_path)
    (tmp_path / "epoch_5.pt").touch()
    with pytest.raises(ConfigError, match=r"as in ViT-B-16/.*/epoch_5\.pt"):
        load_model(tmp_path)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed download is one sentence with the cure."""

    def fail(*_: object) -> str:
        raise OSError("Name or service not known\nmore")

    monkeypatch.setattr(hub, "_download", fail)
    with pytest.raises(CheckpointError, match=r"ViT-B-32/.*not known\); connect to the network"):
        load_model("ViT-B-32/openai")


def test_pretrained_weights_bring_their_activation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    """A tag trained with QuickGELU gets it even where the architecture's name does not say so."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    config["text_cfg"]["vocab_size"] = 49_408
    model = open_clip.CLIP(**config)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: config)
    monkeypatch.setattr(hub, "_download", lambda *_: str(tmp_path / "weights.safetensors"))
    loaded = load_model("ViT-B-16/openai")
    act = loaded.model.visual.transformer.resblocks[0].mlp.gelu
    assert isinstance(act, open_clip.transformer.QuickGELU)
    assert loaded.record["provenance"]["pretrained"] == "openai"
    assert torch.equal(loaded.model.visual.proj, model.visual.proj)


def test_gelu_weights_under_a_quickgelu_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that asks for QuickGELU is refused for weights that were trained without."""
    monkeypatch.setitem(_PRETRAINED["ViT-B-16-quickgelu"], "plain", {"url": "", "hf_hub": ""})
    with pytest.raises(ConfigError, match=r"plain were trained with GELU.*write ViT-B-16/plain"):
        load_model("ViT-B-16-quickgelu/plain")


def test_foreign_tokenizer_of_a_folder(
    tmp_path: Path, family_folder: Callable[[str], Path], write_tokenizer: Any
) -> None:
    """In a folder as the hub has it, the tokenizer.json beside the weights is used."""
    folder = family_folder("siglip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {
        "hf_tokenizer_name": "timm/none",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    write_tokenizer["gemma"](folder)
    with pytest.raises(CheckpointError, match=r"268 tokens.*600"):
        load_model(folder)
    config["model_cfg"]["text_cfg"]["vocab_size"] = 300
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = load_file(folder / WEIGHTS)
    state["text.token_embedding.weight"] = state["text.token_embedding.weight"][:300].clone()
    save_file(state, folder / WEIGHTS)
    loaded = load_model(folder)
    row = [261, 267, 1] + [0] * 13
    assert loaded.tokenizer()(["A dog!"]).tolist() == [row]
    loaded.write_tokenizer(tmp_path / "copy")
    copied = find_settings(tmp_path / "copy/tokenizer/tokenizer.json", {})
    assert (copied.clean, copied.pad_id) == ("canonicalize", 0)
