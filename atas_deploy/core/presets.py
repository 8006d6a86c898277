"""Presets: the settings under which zero-shot segmentation methods were published.

A preset has a row for each data set that its paper reports and a general one for any other class
list. The values are facts of the repositories' test configurations, named beside each row.
docs/protocols.md has the whole table and what differs from the originals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from atas_deploy.core.class_lists import EXPANDED
from atas_deploy.core.classes import list_key
from atas_deploy.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """Settings of a segmentation; the defaults are those without a preset.

    Attributes:
        readout: how dense features are read; None = the model's own.
        short_side: shorter side of the encoder's input in pixels; None = the model's own.
        window: side of sliding windows in pixels; None = the whole picture.
        stride: from one window to the next in pixels; None = half a window.
        merge: what is averaged where windows overlap: "features" or "pixels".
        logit_scale: factor on cosine similarities; None = the model's own.
        templates: the prompts.
        expanded: whether a built-in list means its expanded words.
        background: what competes as class 0: "auto", "none", or a list of words.
        threshold: least probability of a pixel that keeps its class; None keeps all.
        refine: "none" or "pamr".
        denoise: least probability that a class must reach in some cell; None keeps all.
    """

    readout: str | None = None
    short_side: int | None = None
    window: int | None = None
    stride: int | None = None
    merge: str = "features"
    logit_scale: float | None = None
    templates: str | Sequence[str] = "default"
    expanded: bool = False
    background: str | Sequence[str] = "auto"
    threshold: float | None = None
    refine: str = "none"
    denoise: float | None = None


# SCLIP: github.com/wangf3014/SCLIP, clip_segmentor.py and configs/ at 57fa9aa.
_SCLIP = Protocol(
    readout="sclip",  # the correlative self-attention of its clip/model.py
    short_side=336,  # cfg_*.py: Resize, scale (2048, 336), ratio kept
    window=224,  # clip_segmentor.py: slide_crop
    stride=112,  # clip_segmentor.py: slide_stride
    merge="pixels",  # clip_segmentor.py: forward_slide
    logit_scale=40,  # clip_segmentor.py: logit_scale
    templates="imagenet",  # prompts/imagenet_template.py
)
# NACLIP: github.com/sinahmr/NACLIP, naclip.py and configs/ at defb7c9; its README's table has PAMR.
_NACLIP = replace(_SCLIP, readout="naclip", refine="pamr")
# ClearCLIP: github.com/mc-lan/ClearCLIP, clearclip_segmentor.py and configs/ at fd05ce4.
_CLEARCLIP = Protocol(
    readout="clearclip",
    short_side=448,  # cfg_*.py: Resize, scale (2048, 448)
    window=448,  # clearclip_segmentor.py: slide_crop
    stride=224,  # clearclip_segmentor.py: slide_stride
    merge="pixels",  # clearclip_segmentor.py: forward_slide
    logit_scale=50,  # clearclip_segmentor.py: logit_scale
    templates="imagenet",  # prompts/imagenet_template.py
)
# MaskCLIP: github.com/chongzhou96/MaskCLIP, configs/_base_/models/maskclip_vit16.py (whole
# pictures) and configs/maskclip/maskclip_vit16_*.py; prompt denoising is switched off for its ViT.
_MASKCLIP = Protocol(
    readout="maskclip",
    short_side=512,  # the 512x512 configurations: Resize, scale (2048, 512)
    merge="pixels",  # as the encoder sees the picture at exactly that size
    logit_scale=100,  # maskclip_head.py: the factor before its softmax
    templates="imagenet",  # these 80, and 5 more with "in the scene"
)
# MaskCLIP where its paper has no numbers: as SCLIP's paper and later ones report it.
_MASKCLIP_LATER = replace(_SCLIP, readout="maskclip")

PRESETS: Mapping[str, Mapping[str, Protocol]] = {
    "maskclip": {
        "": _MASKCLIP,
        "voc20": replace(_MASKCLIP, background="none"),  # maskclip_vit16_512x512_voc12aug_20
        # ..._520x520_pascal_context_59: the longer side 520; 390 for its pictures of 500 x 375
        "context59": replace(_MASKCLIP, background="none", short_side=390),
        "coco-stuff": replace(_MASKCLIP, background="none"),  # ..._512x512_coco-stuff164k
        "ade20k": replace(_MASKCLIP, background="none"),  # ..._512x512_ade20k
        "voc21": replace(_MASKCLIP_LATER, expanded=True, threshold=0.1),  # SCLIP, cfg_voc21
        "context60": replace(_MASKCLIP_LATER, threshold=0.1),  # SCLIP, cfg_context60
        "coco-object": replace(_MASKCLIP_LATER, expanded=True, threshold=0.1),  # cfg_coco_object
        "cityscapes": replace(
            _MASKCLIP_LATER, background="none", short_side=560
        ),  # cfg_city_scapes
    },
    "sclip": {
        "": _SCLIP,
        "voc20": replace(_SCLIP, background="none", expanded=True),  # cfg_voc20
        # cfg_voc21; its area filter (area_thd 0.1) is not done
        "voc21": replace(_SCLIP, expanded=True, logit_scale=65, threshold=0.1),
        "context59": replace(_SCLIP, background="none"),  # cfg_context59
        "context60": replace(_SCLIP, logit_scale=50, threshold=0.1),  # cfg_context60
        # cfg_coco_object
        "coco-object": replace(_SCLIP, expanded=True, logit_scale=50, threshold=0.1),
        "coco-stuff": replace(_SCLIP, background="none", short_side=448),  # cfg_coco_stuff164k
        "ade20k": replace(_SCLIP, background="none"),  # cfg_ade20k
        "cityscapes": replace(_SCLIP, background="none", short_side=560),  # cfg_city_scapes
    },
    "clearclip": {
        "": _CLEARCLIP,
        "voc20": replace(_CLEARCLIP, background="none"),  # cfg_voc20
        "voc21": replace(_CLEARCLIP, threshold=0.5),  # cfg_voc21
        "context59": replace(_CLEARCLIP, background="none"),  # cfg_context59
        "context60": replace(_CLEARCLIP, threshold=0.15),  # cfg_context60
        "coco-object": replace(_CLEARCLIP, threshold=0.4),  # cfg_coco_object
        "coco-stuff": replace(_CLEARCLIP, background="none"),  # cfg_coco_stuff164k
        "ade20k": replace(_CLEARCLIP, background="none"),  # cfg_ade20k
        # cfg_city_scapes: slide_crop 224, so that windows do not overlap
        "cityscapes": replace(_CLEARCLIP, background="none", window=224),
    },
    "naclip": {
        "": _NACLIP,
        # cfg_voc20 and cfg_voc21: slide_crop 0, the whole picture
        "voc20": replace(_NACLIP, background="none", expanded=True, window=None, stride=None),
        "voc21": replace(_NACLIP, expanded=True, threshold=0.1, window=None, stride=None),
        "context59": replace(_NACLIP, background="none"),  # cfg_context59
        "context60": replace(_NACLIP, threshold=0.1),  # cfg_context60
        "coco-object": replace(_NACLIP, expanded=True, threshold=0.1),  # cfg_coco_object
        "coco-stuff": replace(_NACLIP, background="none"),  # cfg_coco_stuff164k
        "ade20k": replace(_NACLIP, background="none"),  # cfg_ade20k
        "cityscapes": replace(_NACLIP, background="none", short_side=560),  # cfg_city_scapes
    },
}
"""By name, the protocols by built-in list; "" is the general one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A preset applied to a class list.

    Attributes:
        row: the built-in list whose settings were taken; "" = the general ones.
        classes: the class list to use, with the words that the protocol asks for.
        protocol: the settings.
    """

    row: str
    classes: str | Sequence[str]
    protocol: Protocol


def choose_protocol(preset: str | None, classes: str | Sequence[str]) -> Choice:
    """Find the settings for a class list.

    Args:
        preset: a name in `PRESETS`; None = the ordinary settings.
        classes: as `atas_deploy.core.classes.read_class_list` takes them. "@voc21" becomes
            "@voc21:expanded" where the protocol used those words; ":expanded" given stays.

    Raises:
        ConfigError: no such preset.
    """
    if preset is None:
        return Choice("", classes, Protocol())
    if preset not in PRESETS:
        raise ConfigError(f'Unknown preset "{preset}"; expected {", ".join(PRESETS)}.')
    rows = PRESETS[preset]
    asked = _key(classes)
    row = asked.removesuffix(EXPANDED)
    if row not in rows:
        return Choice("", classes, rows[""])
    protocol = rows[row]
    if protocol.expanded and asked == row:
        return Choice(row, f"@{row}{EXPANDED}", protocol)
    return Choice(row, classes, protocol)


def _key(classes: str | Sequence[str]) -> str:
    """The name of a built-in list as it is stored; "" for anything else."""
    if not isinstance(classes, str) or not classes.startswith("@"):
        return ""
    return list_key(classes[1:].strip())
