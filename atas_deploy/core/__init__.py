"""Pure rules and formats: no files but bundles, no network, no engine."""
