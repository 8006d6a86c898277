"""Files from the Hugging Face hub, out of its cache where they are there already."""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, hf_hub_download
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.tokenizer import default_bpe

from atas_deploy.core.bundle import HF_TOKENIZER, MERGES, MODEL_CONFIG
from atas_deploy.core.errors import CheckpointError, first_sentence
from atas_deploy.models.sources import repository_of

_TOKENIZER = "tokenizer.json"
TOKENIZER_NOTES = ("tokenizer_config.json", "special_tokens_map.json")
_CURE = "connect to the network once, or give a folder that holds the model"
_PATIENCE = 6.0  # seconds for one connection: two lost packets and slow names are forgiven


def fetch_model(source: str) -> tuple[Path, Path]:
    """Fetch "hf-hub:ORGANISATION/REPOSITORY": the files of its configuration and its weights.

    Raises:
        ConfigError: the name is not of this form.
        CheckpointError: a file is not there or cannot be fetched.
    """
    repository = repository_of(source)
    config = fetch_file(
        repository,
        MODEL_CONFIG,
        what=f"{MODEL_CONFIG} of {source}",
        cure="connect to the network once, and check that the repository is in open_clip's format",
    )
    return config, fetch_weights(repository, what=f"the weights of {source}")


def fetch_weights(address: str, *, what: str) -> Path:
    """Fetch weights from the hub.

    Args:
        address: "ORGANISATION/REPOSITORY", or with "/FILE" behind it.
        what: as for `fetch_file`.

    Raises:
        CheckpointError: they are not there or cannot be fetched.
    """
    organisation, repository, *rest = address.split("/", 2)
    name = rest[0] if rest and rest[0] else HF_WEIGHTS_NAME
    safe = Path(name).with_suffix(".safetensors").as_posix()
    first = HF_SAFE_WEIGHTS_NAME if name == HF_WEIGHTS_NAME else safe
    return fetch_file(f"{organisation}/{repository}", *dict.fromkeys([first, name]), what=what)


def fetch_file(repository: str, *names: str, what: str, cure: str = _CURE) -> Path:
    """Fetch the first of these files that a repository has.

    Args:
        repository: of the hub.
        names: of files, the preferred one first.
        what: what it is, for messages.
        cure: what to do if it cannot be fetched.

    Raises:
        CheckpointError: none is there, or the hub cannot be reached and none is in its cache.
    """
    return fetch(lambda: _download(repository, names), what=what, cure=cure)


def fetch(download: Callable[[], str], *, what: str, cure: str = _CURE) -> Path:
    """Run a download and put its failure into one sentence.

    Raises:
        CheckpointError: it failed.
    """
    try:
        return Path(download())
    except Exception as exc:  # hub, proxy and certificate errors share no base class
        raise CheckpointError(f"Cannot fetch {what} ({first_sentence(exc)}); {cure}.") from exc


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
    path = fetch_file(
        repository,
        _TOKENIZER,
        what=f"the tokenizer {repository}",
        cure="connect to the network once, or put its tokenizer.json and tokenizer_config.json "
        "beside the model",
    )
    for name in TOKENIZER_NOTES:  # into the same folder; what is missing shows in `find_settings`
        with suppress(CheckpointError):
            fetch_file(repository, name, what=name)
    return path


def _download(repository: str, names: tuple[str, ...]) -> str:
    """The first of these files that a repository has, or its cache if the hub cannot be reached."""
    address = urlsplit(constants.ENDPOINT)
    host, port = str(address.hostname), address.port or (443 if address.scheme == "https" else 80)
    asks = constants.HF_HUB_OFFLINE or getproxies().get(address.scheme) or getproxies().get("all")
    cache_only = not asks and not is_reachable(host, port)  # the hub's client tries for minutes
    for name in names:
        try:
            return hf_hub_download(repository, name, local_files_only=cache_only)
        except Exception as exc:
            failure = exc
    if cache_only:
        raise OSError(f"there is no connection to {host}") from failure
    raise failure


def is_reachable(host: str, port: int) -> bool:
    """Whether a host takes connections, by any of its addresses and within seconds."""
    answers: SimpleQueue[bool] = SimpleQueue()

    def connect(address: Any) -> None:
        with suppress(OSError), socket.create_connection(address[:2], _PATIENCE):
            answers.put(True)

    def connect_all() -> None:
        with suppress(OSError):
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            threads = [Thread(target=connect, args=entry[4:], daemon=True) for entry in found]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        answers.put(False)

    Thread(target=connect_all, daemon=True).start()
    try:
        return answers.get(timeout=_PATIENCE)
    except Empty:
        return False
