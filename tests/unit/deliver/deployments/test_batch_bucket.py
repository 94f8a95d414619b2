"""Batch prediction between buckets of a real S3 API server, in partitions, killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from modelyard.deliver.deployments import batch_inputs
from tests.contract.s3server import start_s3
from tests.unit.deliver.serving.conftest import numeric_model

KILLED = """
import os, signal, sys
from pathlib import Path
from modelyard.deliver.deployments.batch_inputs import reader, writer
from modelyard.deliver.serving import batch

def progress(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

model, pattern, output = sys.argv[1:]
batch.run(Path(model), pattern, writer(output), 1, progress, rows=50, inputs=reader(pattern))
"""


@pytest.mark.slow
def test_partitions_from_one_bucket_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = numeric_model(tmp_path / "m")
    s3 = start_s3(tmp_path)
    try:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        bucket = s3.new_bucket()
        for day, part in (("d=1", rows[:120]), ("d=2", rows[120:])):
            file = tmp_path / f"{day}.parquet"
            part.drop(columns="d").to_parquet(file)
            s3.put(bucket, f"in/{day}/rows.parquet", file.read_bytes())
        s3.put(bucket, "in/d=1/note.txt", b"no input")
        s3.put(bucket, "in/d=3/rows.csv", rows[:60].drop(columns="d").to_csv(index=False).encode())
        where = [str(tmp_path / "m"), f"s3://{bucket}/in/**/rows.*", f"s3://{bucket}/out/v1"]
        killed = subprocess.run([sys.executable, "-c", KILLED, *where], timeout=110, check=False)
        assert killed.returncode == -signal.SIGKILL
        written = [key for key in s3.keys(bucket) if key.startswith("out/")]
        assert 0 < len(written) < 7
        again = KILLED.replace("done == 3", "False") + "\nprint(done)"
        again = again.replace("batch.run(", "done = batch.run(")
        done = subprocess.run([sys.executable, "-c", again, *where], capture_output=True, text=True, check=True)
        assert f"kept={len(written)}" in done.stdout and f"parts={7 - len(written)}" in done.stdout
        assert "out/v1/d=3/rows-00001.parquet" in s3.keys(bucket)
        place = batch_inputs.writer(where[2])
        s3.put(bucket, "out/v1/d=3/rows-00002.parquet", b"not ours")
        s3.put(
            bucket, "out/v1/d=3/rows-00007.parquet", s3.get(bucket, "out/v1/d=3/rows-00001.parquet")["Body"].read()
        )
        subprocess.run([sys.executable, "-c", again, *where], capture_output=True, check=True)
        there = [key for key in s3.keys(bucket) if "d=3/rows" in key and key.startswith("out/")]
        assert there == [f"out/v1/d=3/rows-0000{number}.parquet" for number in (0, 1, 2)]
        for key, day, part in (
            ("d=1/rows-00002.parquet", 1.0, rows[100:120]),
            ("d=3/rows-00000.parquet", 3.0, rows[:50]),
        ):
            found = pq.read_table(place.open(key))
            expected = model.predict_proba(part.assign(d=day))[:, 1]
            np.testing.assert_allclose(found.column("prediction_1").to_numpy(), expected, rtol=1e-12)
        command = [sys.executable, "-m", "modelyard", "predict", where[0], "--workers", "2"]
        command += ["--input", f"s3://{bucket}/in/d=?/*.parquet", "--output", str(tmp_path / "local")]
        told = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True, env=os.environ)
        assert json.loads(told.stdout)["rows"] == 200
        assert (tmp_path / "local" / "d=2" / "rows-00000.parquet").exists()
    finally:
        s3.process.terminate()
        s3.process.wait(20)
