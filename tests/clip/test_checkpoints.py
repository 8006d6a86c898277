"""Checkpoint files: what is read, what is refused, and which activation they need."""

import argparse
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import load_file, save_file

from atas_deploy.clip.architectures import fitting_architectures, towers_of
from atas_deploy.clip.checkpoints import read_state
from atas_deploy.clip.weights import load_model
from atas_deploy.core.errors import CheckpointError, ConfigError

State = dict[str, torch.Tensor]


@pytest.fixture
def state(folder: Path) -> State:
    """Weights of the narrow architecture, float32, and only its tokenizer beside them."""
    path = folder / "open_clip_model.safetensors"
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    path.unlink()
    (folder / "open_clip_config.json").rename(folder / "config.txt")
    return weights


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where open_clip knows "narrow" and "narrow-quickgelu"."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    known = {"narrow": config, "narrow-quickgelu": config | {"quick_gelu": True}}
    others = {name: open_clip.get_model_config(name) for name in ("ViT-B-16", "RN50")}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", others | known)
    monkeypatch.chdir(folder)
    return folder


def save(content: Any, path: Path) -> Path:
    """Write a checkpoint by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def as_trained(state: State) -> dict[str, Any]:
    """As open_clip's training saves several processes' model."""
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    return {"epoch": 5, "name": "run", "state_dict": wrapped, "optimizer": {"state": {}}}


def as_compiled(state: State) -> dict[str, Any]:
    """As torch.compile inside of DistributedDataParallel names the tensors."""
    return {"model": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}}


def in_bfloat16(state: State) -> State:
    """In bfloat16; the weights of the tests are exact in float16, not in bfloat16."""
    return {name: tensor.bfloat16() for name, tensor in state.items()}


def in_half(state: State) -> State:
    """In float16."""
    return {name: tensor.half() for name, tensor in state.items()}


@pytest.mark.parametrize("name", ["a b.safetensors", "runs/epoch_5.pt", "w.pth", "w.bin"])
@pytest.mark.parametrize("absolute", [False, True])
def test_architecture_and_file(place: Path, state: State, name: str, absolute: bool) -> None:
    """ARCHITECTURE/FILE loads a file of any kind, relative or absolute, spaces and all."""
    path = save(state, place / name)
    if path.parent != place:
        (place / "tokenizer").rename(path.parent / "tokenizer")
    loaded = load_model(f"narrow/{path if absolute else name}")
    assert torch.equal(loaded.model.visual.proj, state["visual.proj"])
    assert (loaded.name, loaded.architecture) == (f"narrow-{path.stem}", "narrow")
    assert loaded.record["provenance"]["file"] == path.name


@pytest.mark.parametrize("kind", [as_trained, as_compiled, in_half, in_bfloat16])
def test_kinds_of_checkpoints(
    place: Path, state: State, kind: Callable[[State], dict[str, Any]]
) -> None:
    """Training checkpoints, wrapped names and half precision arrive as plain float32 weights."""
    save(kind(state), place / "w.pt")
    got = load_model("narrow/w.pt").model.state_dict()
    expected = in_bfloat16(state) if kind is in_bfloat16 else state
    assert all(torch.equal(got[name], expected[name].float()) for name in expected)


def test_weights_of_the_other_class(place: Path, state: State) -> None:
    """A text tower below `text.` and SigLIP's bias are taken as the file has them."""
    words = ("token_", "positional_", "transformer.", "ln_final.", "text_projection")
    moved = {f"text.{n}" if n.startswith(words) else n: tensor for n, tensor in state.items()}
    save(moved | {"logit_bias": torch.tensor(-10.0)}, place / "w.pt")
    loaded = load_model("narrow/w.pt")
    assert isinstance(loaded.model, open_clip.CustomTextCLIP)
    assert loaded.model.logit_bias is not None
    assert loaded.model.logit_bias.item() == -10
    assert torch.equal(loaded.model.text.text_projection, state["text_projection"])


def test_positions_of_another_resolution(place: Path, state: State) -> None:
    """The model takes the file's resolution and context: nothing is resampled."""
    state["visual.positional_embedding"] = torch.randn(1 + 6 * 6, 32)
    state["positional_embedding"] = torch.randn(20, 32)
    save(state, place / "w.pt")
    loaded = load_model("narrow/w.pt")
    config = loaded.config["model_cfg"]
    assert config["vision_cfg"]["image_size"] == 96
    assert config["text_cfg"]["context_length"] == loaded.tokenizer().context_length == 20
    got = loaded.model.visual.positional_embedding
    assert torch.equal(got, state["visual.positional_embedding"])
    assert loaded.model.encode_image(torch.zeros(1, 3, 96, 96)).shape == (1, 24)


def test_positions_that_are_not_square(place: Path, state: State) -> None:
    """Their sides cannot be told from their number."""
    state["visual.positional_embedding"] = torch.randn(1 + 3 * 5, 32)
    save(state, place / "w.pt")
    with pytest.raises(CheckpointError, match=r"positional_embedding has shape \[16, 32\]"):
        load_model("narrow/w.pt")


def test_bare_file_names_what_fits(place: Path, state: State) -> None:
    """Tensors cannot tell GELU from QuickGELU, so the user must."""
    save(state, place / "w.pt")
    with pytest.raises(ConfigError, match=r"write narrow/w\.pt or narrow-quickgelu/w\.pt"):
        load_model("w.pt")


def test_bare_file_with_a_configuration(place: Path, state: State) -> None:
    """open_clip_config.json beside a file says all that is needed."""
    save(state, place / "w.pt")
    (place / "config.txt").rename(place / "open_clip_config.json")
    loaded = load_model("w.pt")
    assert (loaded.name, loaded.mean) == ("w", (0.5,) * 3)


def test_wrong_architecture(place: Path, state: State) -> None:
    """The message tells what the file is, what was asked and what fits."""
    save(state, place / "w.pt")
    with pytest.raises(
        CheckpointError,
        match=r"w\.pt do not fit ViT-B-16.* 3 blocks, width 32.*12 blocks, width 768.*narrow/w\.pt",
    ):
        load_model("ViT-B-16/w.pt")


def test_a_missing_block(place: Path, state: State) -> None:
    """What differs is told, not all that is equal."""
    names = [n for n in state if n.startswith("visual.transformer.resblocks.2.")]
    save({name: t for name, t in state.items() if name not in names}, place / "w.pt")
    with pytest.raises(CheckpointError) as caught:
        load_model("narrow/w.pt")
    assert "narrow: they have 2 blocks in the image tower, expected 3;" in str(caught.value)
    assert "width" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"vision_model.embeddings.class_embedding": torch.zeros(2)}, "Hugging Face transformers"),
        ({"visual.layer1.0.conv1.weight": torch.zeros(2)}, "ResNet"),
        ({"blocks.0.weight": torch.zeros(2)}, r"tensors such as blocks\.0\.weight"),
    ],
)
def test_foreign_weights(place: Path, state: State, tensors: State, reason: str) -> None:
    """Weights of another kind are called by their kind."""
    save(tensors, place / "w.pt")
    with pytest.raises(CheckpointError, match=reason):
        load_model("narrow/w.pt")
    with pytest.raises(ConfigError, match=reason):
        load_model("w.pt")


def write_torchscript(path: Path) -> None:
    """A TorchScript archive, as OpenAI published its weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


RUBBISH: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.touch(), "Cannot read the weights"),
    "text": (lambda path: path.write_text("hello world"), "Cannot read the weights"),
    "list": (lambda path: torch.save([1, 2], path), "a list of something else"),
    "nothing": (lambda path: torch.save({}, path), "no state dict"),
    "no weights": (lambda path: torch.save({"epoch": 3}, path), "no state dict"),
    "truncated": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(90)), "Cannot read"),
    "code": (
        lambda path: torch.save({"args": argparse.Namespace(), "state_dict": {}}, path),
        r"Python objects \(argparse\.Namespace\).*weights_only=False",
    ),
    "TorchScript": (write_torchscript, r"TorchScript archive.*ViT-B-16/openai"),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish(tmp_path: Path, kind: str) -> None:
    """Whatever lies in a file, one sentence says what to do."""
    write, reason = RUBBISH[kind]
    write(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_state(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


def test_names_of_other_files(tmp_path: Path) -> None:
    """A text file is no checkpoint, and says which names are."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"must end in one of \.safetensors, \.pt"):
        load_model(str(tmp_path / "notes.txt"))


def write_config(place: Path, quick: bool) -> None:
    """open_clip_config.json beside the file."""
    config = json.loads((place / "config.txt").read_text())
    config["model_cfg"]["quick_gelu"] = quick
    (place / "runs/open_clip_config.json").write_text(json.dumps(config))


def write_params(place: Path, quick: bool) -> None:
    """params.txt, which open_clip's training writes above its checkpoints."""
    (place / "params.txt").write_text(f"lr: 0.1\nmodel: narrow\nforce_quick_gelu: {quick}\n")


@pytest.mark.parametrize("record", [write_config, write_params])
@pytest.mark.parametrize("quick", [False, True])
def test_recorded_activation(
    place: Path, state: State, record: Callable[[Path, bool], None], quick: bool
) -> None:
    """A record that contradicts the name is an error that gives the right name."""
    save(state, place / "runs/w.pt")
    (place / "tokenizer").rename(place / "runs/tokenizer")
    record(place, quick)
    right, wrong = ("narrow-quickgelu", "narrow") if quick else ("narrow", "narrow-quickgelu")
    assert load_model(f"{right}/runs/w.pt").config["model_cfg"].get("quick_gelu", False) == quick
    activation = "QuickGELU" if quick else "GELU"
    with pytest.raises(ConfigError, match=rf"trained with {activation} .*write {right}/runs/w\.pt"):
        load_model(f"{wrong}/runs/w.pt")


def test_marks_of_openai(place: Path, state: State) -> None:
    """The entries that OpenAI's weights carry mean QuickGELU, and are left out."""
    save(state | {"input_resolution": torch.tensor(64)}, place / "w.pt")
    with pytest.raises(ConfigError, match=r"mark of OpenAI's own.*write narrow-quickgelu/w\.pt"):
        load_model("narrow/w.pt")
    assert torch.equal(load_model("narrow-quickgelu/w.pt").model.logit_scale, state["logit_scale"])


def test_listed_by_hash(place: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose hash open_clip lists for QuickGELU needs it, whatever its name."""
    path = save(state, place / "w.pt")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for address in (f"https://example.org/{digest}/x.pt", f"https://example.org/x-{digest[:8]}.pt"):
        entry = {"url": address, "quick_gelu": True}
        monkeypatch.setitem(_PRETRAINED, "ViT-B-16", {"mine": entry})
        with pytest.raises(ConfigError, match="open_clip lists them as ViT-B-16/mine"):
            load_model("narrow/w.pt")


def test_listed_by_place_in_the_cache(place: Path, state: State) -> None:
    """So does a file in the hub's cache that open_clip lists."""
    name = "models--timm--vit_base_patch16_clip_224.openai/snapshots/1/w.safetensors"
    save(state, place / name)
    with pytest.raises(ConfigError, match="open_clip lists them as ViT-B-16/openai"):
        load_model(f"narrow/{name}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-L-14-336", ["ViT-L-14-336", "ViT-L-14-336-quickgelu"]),
        ("ViT-B-16-SigLIP2-384", ["ViT-B-16-SigLIP2-384"]),
        ("RN50", []),
    ],
)
def test_fitting_architectures(name: str, expected: list[str]) -> None:
    """Names and shapes lead to open_clip's names, and to none for other towers."""
    config = open_clip.get_model_config(name)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        assert fitting_architectures(kind(**config).state_dict()) == expected


def test_towers_of_every_family(family_model: Callable[[str], Any]) -> None:
    """Depth, width, patch size, words and embedding width are read off the tensors."""
    native = towers_of(family_model("native").state_dict())
    eva, siglip = (towers_of(family_model(name).state_dict()) for name in ("eva", "siglip"))
    assert native == (True, (3, 32, 16), (2, 32), 814, 24)
    assert eva == (False, (3, 48, 16), (2, 32), 814, 24)
    assert siglip == (False, (3, 32, 16), (2, 32), 600, 32)
