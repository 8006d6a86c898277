"""`RayJob`: a segmentation job whose sources are segmented by the workers of a cluster.

Every item has a journal of its own in the folder of the run, which its worker writes. The run takes
the lines over in the order of the inputs. So the work of a killed worker is not lost, and what was
not taken over when a run was killed, `--resume` takes over.
"""

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import ConfigError, OutputError
from atas_deploy.media.sources import Found, Source
from atas_deploy.runtime.job import SegmentJob
from atas_deploy.runtime.journal import read_rows
from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.ray_job.cluster import Pool, cluster, import_ray
from atas_deploy.runtime.ray_job.items import Item, divide, images_per_item
from atas_deploy.runtime.ray_job.worker import Report, Task, Worker
from atas_deploy.runtime.resume import take_over
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.start import Start
from atas_deploy.runtime.tally import Tally
from atas_deploy.runtime.work import Progress, Work

_PATIENCE = 10.0  # seconds in which workers that were told to end must be gone


class RayJob(SegmentJob):
    """Segments sources into a folder that all workers see.

    Args:
        segmenter: the model with its classes, as on every worker.
        out: folder of the results.
        progress: where to tell how far the job is.
        options: what to write, and of what.
        model: arguments of `Segmenter` for the workers.
        workers: how many; 0 = one for each machine, or for each GPU.
        gpu: whether each needs a GPU.

    Raises:
        ConfigError: the encoder, or preset of it, asked for cannot be used.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        out: Path,
        *,
        progress: Progress,
        options: JobOptions,
        model: Mapping[str, Any],
        workers: int = 0,
        gpu: bool = False,
    ) -> None:
        super().__init__(segmenter, out, progress=progress, options=options)
        self._model, self._workers, self._gpu = model, workers, gpu
        self._inputs: tuple[str, ...] = ()

    def run(self, found: Found, *, inputs: Iterable[str] = ()) -> Tally:
        """Segment sources as `SegmentJob` does.

        Raises:
            ConfigError: as there, or the cluster has too few processors or GPUs.
            OutputError: as there.
            BackendError: as there, or Ray cannot be started or reached, or fails.
        """
        self._inputs = tuple(inputs)
        return super().run(found, inputs=self._inputs)

    def _segment(self, work: Work, start: Start, found: Found) -> None:
        """Let workers segment the sources, and take their lines over in order."""
        sources = list(self._turns(work, start, found))
        self._note_problems(work, found)
        if not sources:
            return
        try:
            with cluster(self._workers, gpu=self._gpu) as pool:
                self._share_out(work, pool, sources)
        except BaseException:
            with work.stops.hold():
                self._rescue(work)
            raise

    def _share_out(self, work: Work, pool: Pool, sources: Sequence[Source]) -> None:
        images = images_per_item(
            len(sources), workers=pool.workers, batch_size=self._segmenter.encoder.batch_size
        )
        items = list(divide(sources, images=images))
        task = Task(
            model=self._model,
            settings=self._record.settings,
            options=self._options,
            out=self._files.folder,
            inputs=self._inputs,
            force=work.force,
            folder=Path.cwd(),
            per_machine=pool.per_machine,
        )
        what = "worker" if pool.workers == 1 else "workers"
        work.progress.begin(f"{pool.workers} {what}", total=len(sources), unit="input")
        for report in run_pipeline(items, task, pool):
            with work.stops.hold():
                self._take(work, report)
        work.progress.end()

    def _take(self, work: Work, report: Report) -> None:
        """Take over the lines of an item."""
        files = RunFiles(self._files.folder, item=report.item)
        journal = files.last_journal()  # an error may have come before there was one
        for row in read_rows(journal) if journal else ():
            work.journal.write(row)
            if row.get("kind") != "frame":
                work.progress.advance()
        files.remove()
        for note in report.notes:
            work.note(note)
        if report.error is not None:
            raise report.error

    def _rescue(self, work: Work) -> None:
        """Take over what was whole when the run stopped, and remove what was not."""
        for files in self._files.items():
            # what cannot be taken now, --resume will
            with suppress(ConfigError, OutputError), locked(files, patience=_PATIENCE):
                take_over(files)
                for row in read_rows(files.journal):
                    work.journal.write(row)
                files.remove()


def run_pipeline(items: Sequence[Item], task: Task, pool: Pool) -> Iterator[Report]:
    """Run the pipeline; the reports come in the order of the items.

    Ray does the item of a worker that died again, on this or another one.

    Args:
        items: one at least.
        task: of the run.
        pool: the workers.
    """
    data = import_ray().data
    rows = [{"item": pickle.dumps(item)} for item in items]
    done = data.from_items(rows, override_num_blocks=len(rows)).map(
        Worker,
        fn_constructor_args=(task,),
        compute=data.ActorPoolStrategy(
            size=min(pool.workers, len(rows)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )
    done.context.execution_options.preserve_order = True
    done.context.execution_no_progress_timeout_s = -1  # a video may take hours
    done.context.enable_progress_bars = False
    for row in done.iter_rows():
        report: Report = pickle.loads(row["report"])
        yield report
