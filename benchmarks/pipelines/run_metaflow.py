import sys

import work
from metaflow import FlowSpec, step

SCENARIO = sys.argv.pop(1)

if SCENARIO == "chain":

    class Bench(FlowSpec):
        @step
        def start(self):
            self.value = work.inc(0)
            self.next(self.s2)

        @step
        def s2(self):
            self.value = work.inc(self.value)
            self.next(self.s3)

        @step
        def s3(self):
            self.value = work.inc(self.value)
            self.next(self.s4)

        @step
        def s4(self):
            self.value = work.inc(self.value)
            self.next(self.s5)

        @step
        def s5(self):
            self.value = work.inc(self.value)
            self.next(self.s6)

        @step
        def s6(self):
            self.value = work.inc(self.value)
            self.next(self.s7)

        @step
        def s7(self):
            self.value = work.inc(self.value)
            self.next(self.s8)

        @step
        def s8(self):
            self.value = work.inc(self.value)
            self.next(self.s9)

        @step
        def s9(self):
            self.value = work.inc(self.value)
            self.next(self.end)

        @step
        def end(self):
            print("RESULT", work.inc(self.value))

elif SCENARIO == "fan":

    class Bench(FlowSpec):
        @step
        def start(self):
            self.numbers = list(range(work.FAN))
            self.next(self.each, foreach="numbers")

        @step
        def each(self):
            self.value = work.inc(self.input)
            self.next(self.join)

        @step
        def join(self, inputs):
            self.total = work.add([each.value for each in inputs])
            self.next(self.end)

        @step
        def end(self):
            print("RESULT", self.total)

else:

    class Bench(FlowSpec):
        @step
        def start(self):
            self.frame = work.load()
            self.next(self.features)

        @step
        def features(self):
            self.frame = work.features(self.frame)
            self.next(self.fit)

        @step
        def fit(self):
            self.model = work.fit(self.frame)
            self.next(self.end)

        @step
        def end(self):
            print("RESULT", work.evaluate(self.model, self.frame))


if __name__ == "__main__":
    import os

    # metaflow starts a process a step with this file and the same first words: give it the scenario back
    if "run" not in sys.argv and len(sys.argv) == 1:
        os.execv(sys.executable, [sys.executable, __file__, SCENARIO, "run", "--max-num-splits", "100"])
    Bench()
