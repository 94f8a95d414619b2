"""What a prediction request may be answered with instead of predictions."""


class BadInput(Exception):
    """The request's body does not fit the model's signature: status 400, message for the caller."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
