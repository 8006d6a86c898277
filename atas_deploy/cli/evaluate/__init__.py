"""The commands of `atas-deploy eval`, one file a task."""
