"""Embeddings of many texts and images, and recall on the held-out images.

T texts, M images, D embedding width
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.templates import DEFAULT_TEMPLATES
from atas_deploy.evaluation.recall import count_found, recalls
from atas_deploy.evaluation.retrieval import image_to_text_ranks, text_to_image_ranks
from atas_deploy.training.contrastive import encode_texts
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.tiny.features import pixel_batches

_TEXTS_AT_ONCE = 4096


def encode(clip: ClipModel, texts: Sequence[str]) -> Tensor:
    """Embed texts, (T, D), L2-normalised."""
    encoder, tokenizer = TextEncoder(clip.model), clip.tokenizer()
    parts = [texts[i : i + _TEXTS_AT_ONCE] for i in range(0, len(texts), _TEXTS_AT_ONCE)]
    with torch.inference_mode():
        rows = [encode_texts(encoder, torch.from_numpy(tokenizer(part))) for part in parts]
    return torch.cat(rows).float().clone()


def encode_names(clip: ClipModel, names: Sequence[str]) -> Tensor:
    """Embed names as the runtime does: the normalised mean over the default templates."""
    rows = [encode(clip, [t.format(name) for name in names]) for t in DEFAULT_TEMPLATES]
    return F.normalize(torch.stack(rows).mean(dim=0), dim=-1)


def measure_retrieval(clip: ClipModel, pairs: Pairs) -> dict[str, float]:
    """Recall in percent, all captions of all images as queries."""
    texts = [text for captions in pairs.captions for text in captions]
    owner = np.array([image for image, captions in enumerate(pairs.captions) for _ in captions])
    with torch.autocast("cpu", torch.bfloat16):
        images, queries = embed_images(DenseViT(clip.model.visual), pairs), encode(clip, texts)
    features = images.numpy(), queries.numpy(), owner
    ranks = {
        "text_to_image": text_to_image_ranks(*features),
        "image_to_text": image_to_text_ranks(*features),
    }
    found = {kind: np.array(count_found(rank), float) for kind, rank in ranks.items()}
    return {name: round(100 * float(share), 2) for name, share in recalls(found).items()}


def embed_images(vit: DenseViT, pairs: Pairs) -> Tensor:
    """Image embeddings (M, D), L2-normalised."""
    with torch.inference_mode():
        return torch.cat([vit(batch)[1].float() for batch in pixel_batches(pairs)])
