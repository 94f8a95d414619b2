"""Pipelines: plain typed functions, cached, resumable, parallel.

@yard.step
def features(flights: pd.DataFrame) -> pd.DataFrame: ...

@yard.pipeline
def train(until: str = "2013-03-01"):
    rows = features(load(until))
    ...

The public names are those of `modelyard`, which loads each on first use.
"""
