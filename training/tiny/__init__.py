"""The recipe of `atas-tiny`: its start, its data, its two objectives, its measurements."""
