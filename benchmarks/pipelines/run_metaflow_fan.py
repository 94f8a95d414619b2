import work
from metaflow import FlowSpec, step


class Fan(FlowSpec):
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


if __name__ == "__main__":
    Fan()
