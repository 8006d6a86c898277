"""A bundle with the similarity head, and with words for it; all of it or nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from atas_deploy.backends.ort import OrtTextEncoder
from atas_deploy.core.bundle import IMAGE_ENCODER, MANIFEST, PARITY, Bundle, record_files
from atas_deploy.core.vocabulary import Vocabulary
from atas_deploy.export.folder import new_folder
from atas_deploy.export.similarity import SIMILARITY, with_head
from atas_deploy.export.similarity_proof import prove_similarity
from atas_deploy.export.storage import LARGEST_FILE, save_graph
from atas_deploy.export.words import write_words


def export_with_head(
    export: Callable[[Path], Bundle],
    out: Path,
    *,
    vocabulary: Vocabulary | None = None,
    force: bool = False,
) -> Bundle:
    """Export a bundle, add the head and its words, and put all in place.

    Args:
        export: writes the bundle into the empty folder that it is given.
        out: folder to write.
        vocabulary: words to encode; None = none.
        force: replace an existing bundle.

    Returns:
        The bundle written.

    Raises:
        ParityError: a graph does not compute what it should; nothing is written.
        OutputError: the folder exists, or cannot be written.
        AtasError: whatever `export` raises.
    """
    with new_folder(out, force=force) as folder:
        bundle = export(folder)
        stages = add_similarity(bundle)
        if vocabulary:
            write_words(bundle, OrtTextEncoder(bundle), vocabulary, folder)
        proof = json.loads((folder / PARITY).read_text(encoding="utf-8"))
        proof["stages"] += stages
        content = json.dumps(proof, indent=2, ensure_ascii=False) + "\n"
        (folder / PARITY).write_text(content, encoding="utf-8")
        manifest = replace(bundle.manifest, files=record_files(folder))
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        Bundle.open(folder).verify()
    return Bundle.open(out)


def add_similarity(bundle: Bundle, *, largest_file: int = LARGEST_FILE) -> list[dict[str, Any]]:
    """Write the graph into the folder of a bundle and prove it.

    Args:
        bundle: with its image encoder; its manifest is not touched.
        largest_file: bytes of weights that the ONNX file may hold.

    Returns:
        The stages of its proof for parity.json.

    Raises:
        ParityError: the graph does not compute what numpy does.
    """
    path, manifest = bundle.path / SIMILARITY, bundle.manifest
    model = with_head(ir.load(bundle.path / IMAGE_ENCODER), manifest)
    save_graph(model, path, largest=largest_file)
    return prove_similarity(bundle)
