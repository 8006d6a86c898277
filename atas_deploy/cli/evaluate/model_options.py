"""Options of the model that several tasks take."""

from atas_deploy.cli.segment_options import OPTIONS

ENGINE = tuple(OPTIONS[name] for name in ("--backend", "--device"))
MODEL = (OPTIONS["--model"], OPTIONS["--readout"], *ENGINE)
SIZE = (OPTIONS["--short-side"], OPTIONS["--batch-size"])
