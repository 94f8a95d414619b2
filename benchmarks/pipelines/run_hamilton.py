import sys
import types

import work
from hamilton import driver
from hamilton.function_modifiers import cache, parameterize, source, value


def module_of(*functions):
    made = types.ModuleType("flow")
    for function in functions:
        function.__module__ = "flow"
        setattr(made, function.__name__, function)
    sys.modules["flow"] = made
    return made


def chain():
    @parameterize(**{f"v{n}": {"number": source(f"v{n - 1}")} for n in range(1, work.CHAIN + 1)})
    def inc(number: int) -> int:
        return work.inc(number)

    return module_of(inc), f"v{work.CHAIN}", {"v0": 0}


def fan():
    @parameterize(**{f"v{n}": {"number": value(n)} for n in range(work.FAN)})
    def inc(number: int) -> int:
        return work.inc(number)

    arguments = ", ".join(f"v{n}: int" for n in range(work.FAN))
    scope = {"work": work}
    exec(f"def total({arguments}) -> int:\n    return work.add(list(locals().values()))", scope)
    return module_of(inc, scope["total"]), "total", {}


def train():
    import pandas as pd

    @cache(format="parquet")
    def frame() -> pd.DataFrame:
        return work.load()

    @cache(format="parquet")
    def features(frame: pd.DataFrame) -> pd.DataFrame:
        return work.features(frame)

    def model(features: pd.DataFrame) -> object:
        return work.fit(features)

    def auc(model: object, features: pd.DataFrame) -> float:
        return work.evaluate(model, features)

    return module_of(frame, features, model, auc), "auc", {}


if __name__ == "__main__":
    module, wanted, inputs = {"chain": chain, "fan": fan, "train": train}[sys.argv[1]]()
    made = driver.Builder().with_modules(module).with_cache(path=".hamilton").build()
    print("RESULT", made.execute([wanted], inputs=inputs))
