"""Files from the Hugging Face hub, out of its cache where they are there already."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.tokenizer import default_bpe

from atas_deploy.core.bundle import HF_TOKENIZER, MERGES, MODEL_CONFIG
from atas_deploy.core.errors import CheckpointError, ConfigError

PREFIX = "hf-hub:"
_TOKENIZER = "tokenizer.json"
_NOTES = ("tokenizer_config.json", "special_tokens_map.json")


def fetch_model(source: str) -> tuple[Path, Path]:
    """Fetch "hf-hub:ORGANISATION/REPOSITORY": the files of its configuration and its weights.

    Raises:
        ConfigError: the name is not of this form.
        CheckpointError: a file is not there or cannot be fetched.
    """
    repository = source.removeprefix(PREFIX)
    if len([part for part in repository.split("/") if part.strip()]) != 2:
        raise ConfigError(
            f'"{source}" names no model; write {PREFIX}ORGANISATION/REPOSITORY, such as '
            f"{PREFIX}timm/ViT-B-16-SigLIP."
        )
    config = fetch(
        lambda: hf_hub_download(repository, MODEL_CONFIG),
        what=f"{MODEL_CONFIG} of {source}",
        cure="connect to the network once, and check that the repository is in open_clip's format",
    )
    weights = fetch(
        lambda: download_pretrained_from_hf(repository), what=f"the weights of {source}"
    )
    return config, weights


def fetch(
    download: Callable[[], str],
    *,
    what: str,
    cure: str = "connect to the network once, or give a folder that holds the model",
) -> Path:
    """Run a download and put its failure into one sentence.

    Raises:
        CheckpointError: it failed.
    """
    try:
        return Path(download())
    except Exception as exc:  # hub, proxy and certificate errors share no base class
        reason = str(exc).strip().partition("\n")[0].partition(". ")[0].strip(".:")
        raise CheckpointError(
            f"Cannot fetch {what} ({reason or type(exc).__name__}); {cure}."
        ) from exc


def find_tokenizer(config: Mapping[str, Any], folder: Path | None = None) -> Path:
    """The tokenizer file of a model.

    Args:
        config: content of open_clip_config.json.
        folder: where the model lies: the tokenizer is looked for there first.

    Returns:
        A file of merges, CLIP's own if the folder has none, or a tokenizer.json, from the hub if
        the folder has none.

    Raises:
        CheckpointError: a tokenizer.json is needed and cannot be fetched.
    """
    repository = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
    names = (HF_TOKENIZER, _TOKENIZER) if repository else (MERGES,)
    for path in (folder / name for name in names if folder):
        if path.is_file():
            return path
    if not repository:
        return Path(default_bpe())
    for name in _NOTES:
        _try_fetch(repository, name)
    return fetch(
        lambda: hf_hub_download(repository, _TOKENIZER),
        what=f"the tokenizer {repository}",
        cure="connect to the network once, or put its tokenizer.json and tokenizer_config.json "
        "beside the model",
    )


def _try_fetch(repository: str, name: str) -> None:
    """Fetch a file that a repository may have, into the folder where its others go."""
    with suppress(Exception):  # what is missing shows in `find_settings`
        hf_hub_download(repository, name)
