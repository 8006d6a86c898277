"""Pictures with captions: those that a file names and a folder or tar file holds."""

from pathlib import Path
from typing import Any

from atas_deploy.core.errors import InputError
from atas_deploy.media.captions import Captions, read_captions
from atas_deploy.media.stored import open_stored


class Captioned:
    """Pictures with captions; no picture is read before it is asked for.

    Args:
        images: a folder or an uncompressed tar file.
        captions: CSV, COCO's JSON or Karpathy's, see `atas_deploy.media.captions`.
        split: of a file that has splits.
        per_image: how many captions of an image count, the first ones; None = all. COCO's
            benchmarks take 5.

    Attributes:
        texts: captions by the name of their image, sorted.
        stored: gives the images by name.
        missing: how many images of the file are not there.

    Raises:
        InputError: a file cannot be used, two images share a name, or fewer than two are there.
    """

    def __init__(
        self,
        images: Path,
        captions: Path,
        *,
        split: str | None = None,
        per_image: int | None = None,
    ) -> None:
        self._source = {"images": str(images), "captions": str(captions), "split": split}
        if captions.is_dir() or captions.suffix.lower() in (".tar", ".zip", ".gz", ".jpg", ".png"):
            raise InputError(
                f"{captions} holds no captions; give their CSV or JSON file with --captions, and "
                "the pictures with --images."
            )
        texts = read_captions(captions, split=split)
        self.stored = open_stored(images)
        found = sorted(texts.keys() & self.stored.names)
        self.texts: Captions = {name: texts[name][:per_image] for name in found}
        self.stored.check(found)
        if not found:
            raise InputError(
                f"None of the {len(texts)} pictures of {captions} is in {images}; give the folder "
                "or tar file that holds them."
            )
        if len(found) == 1:
            raise InputError(
                f"One picture of {captions} is in {images}, and nothing to tell it from; give two "
                "or more."
            )
        self.missing = len(texts) - len(found)

    def facts(self) -> dict[str, Any]:
        """The data, and how much of them there is."""
        return {
            **self._source,
            "captions_in_all": sum(map(len, self.texts.values())),
            "images_missing": self.missing,
        }
