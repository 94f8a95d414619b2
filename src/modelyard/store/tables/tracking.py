"""Experiments, runs, metrics, params, tags, datasets, logged models and artifacts."""
