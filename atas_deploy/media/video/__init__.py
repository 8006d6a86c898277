"""Video in and out: upright RGB frames with their time stamps, video files with their sound."""

from atas_deploy.media.video.masks import MaskLines, MaskSequence
from atas_deploy.media.video.opening import VIDEO_SUFFIXES, is_video
from atas_deploy.media.video.reader import Frame, VideoReader
from atas_deploy.media.video.writer import VideoWriter

__all__ = [
    "VIDEO_SUFFIXES",
    "Frame",
    "MaskLines",
    "MaskSequence",
    "VideoReader",
    "VideoWriter",
    "is_video",
]
