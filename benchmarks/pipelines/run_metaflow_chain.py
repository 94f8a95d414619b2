import work
from metaflow import FlowSpec, step


class Chain(FlowSpec):
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


if __name__ == "__main__":
    Chain()
