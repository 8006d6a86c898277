"""What cannot be done with Ray, found before a model is opened."""

from collections.abc import Sequence

from atas_deploy.backends.opening import DEFAULT_DEVICES
from atas_deploy.core.errors import ConfigError
from atas_deploy.media.live import is_live, redact
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.ray_job.cluster import import_ray


def refuse_early(
    inputs: Sequence[str], options: JobOptions, *, backend: str, device: str | None
) -> bool:
    """Refuse what cannot be used with Ray, and Ray if it is not there.

    Args:
        inputs: what the user named.
        options: of the job.
        backend: "ort" or "trt".
        device: "cpu", "cuda", or None = the backend's own.

    Returns:
        Whether each worker needs a GPU.

    Raises:
        ConfigError: a shard, a live input, or a numbered GPU.
        BackendUnavailableError: Ray is not installed.
    """
    if options.shard is not None:
        raise ConfigError("Got --shard and --ray, which divides a run by itself; give one of them.")
    if live := [asked for asked in inputs if is_live(asked)]:
        raise ConfigError(
            f"{redact(live[0])} is live, which --ray does not do; record it without --ray."
        )
    wanted = device or DEFAULT_DEVICES.get(backend, "cpu")
    if wanted.startswith("cuda:"):
        raise ConfigError(
            f'Got the device "{wanted}" and --ray, which gives each worker a GPU of its own; '
            "write --device cuda."
        )
    import_ray()
    return wanted == "cuda"
