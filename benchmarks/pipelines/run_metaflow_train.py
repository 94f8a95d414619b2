import work
from metaflow import FlowSpec, step


class Train(FlowSpec):
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
    Train()
