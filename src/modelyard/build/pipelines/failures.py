"""What a user's code raised, as one error that names the step and the user's own line."""

import sys
from pathlib import Path

import modelyard
from modelyard.domain.errors import ModelyardError, StepFailed

PACKAGE = str(Path(modelyard.__file__).parent)


def explain(what: str, error: BaseException) -> StepFailed:
    """The error of `what` (such as `Step 'fit'`), with the last line of the user's own code on the way to it."""
    if isinstance(error, ModelyardError):
        return StepFailed(f"{what}: {error.message}", remedy=error.remedy)
    import traceback  # late: only failures need it

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return StepFailed(
        f"{what} raised {type(error).__name__}: {str(error) or 'no message'}{where}.",
        remedy="Mend it and run again; finished steps are not run twice. For the trace: modelyard --debug run ...",
    )


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith((sys.base_prefix, PACKAGE, "<frozen"))
