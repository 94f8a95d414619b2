"""Steps are plain functions: outside a pipeline they just run."""

import pipeline


def test_features_know_nothing_of_the_future():
    flights = pipeline.load_flights("2013-01-05", "2013-01-07")
    rows = pipeline.features(flights, pipeline.load_weather(), pipeline.load_planes())
    assert len(rows) == len(flights) > 1000
    assert not {"dep_delay", "dep_time", "arr_time", "air_time"} & set(rows.columns)
    assert set(rows["late"]) == {0, 1}


def test_whole_days_are_held_out():
    flights = pipeline.load_flights("2013-01-01", "2013-02-01")
    rows = pipeline.features(flights, pipeline.load_weather(), pipeline.load_planes())
    train, test = pipeline.split(rows)
    assert len(train) + len(test) <= len(rows)
    assert 0.2 < len(test) / len(rows) < 0.3
