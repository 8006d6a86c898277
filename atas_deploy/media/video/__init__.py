"""Video in and out: upright RGB frames with their time stamps, H.264 with the source's sound."""

from atas_deploy.media.video.reader import VIDEO_SUFFIXES, Frame, VideoReader, is_video
from atas_deploy.media.video.writer import VideoWriter

__all__ = ["VIDEO_SUFFIXES", "Frame", "VideoReader", "VideoWriter", "is_video"]
