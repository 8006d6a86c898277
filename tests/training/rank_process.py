"""One of the processes that the fixture `in_two_processes` starts."""

import importlib.util
import os
import pickle
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from atas_deploy.training.distributed import join, leave


def start(
    rank: int, port: int, file: Path, function: str, arguments: bytes, to: Connection
) -> None:
    """Call a function of a test file with this process's group; send back what comes of it.

    Arguments and result are pickled as bytes: multiprocessing would share the memory of tensors.
    """
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        group = join(torch.device("cpu"))
        to.send_bytes(pickle.dumps(getattr(module, function)(group, *pickle.loads(arguments))))
    except (Exception, SystemExit) as exc:
        to.send_bytes(pickle.dumps(exc))
        os._exit(1)  # as a process that dies: it does not wait for the other
    leave()
