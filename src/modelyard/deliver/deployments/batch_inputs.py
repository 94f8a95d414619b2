"""Where batch prediction reads and writes, by how it is named: folders, buckets, tables of databases."""

from pathlib import Path

from modelyard.deliver.deployments import batch_tables
from modelyard.deliver.deployments.batch_bucket import SCHEME, BucketFiles
from modelyard.deliver.serving.batch_files import Files, LocalFiles
from modelyard.deliver.serving.batch_rows import FileRows, Rows
from modelyard.domain.errors import Invalid


def reader(pattern: str) -> Rows:
    """What reads `s3://bucket/in/*.parquet`, `postgresql://host/db?table=flights`, or files of this machine.

    Raises Invalid for a URL that names no table.
    """
    if batch_tables.is_table(pattern):
        return batch_tables.parse(pattern)
    if pattern.startswith(SCHEME):
        return FileRows(BucketFiles(pattern.removeprefix(SCHEME).partition("/")[0]))
    if "://" in pattern:
        known = f"{SCHEME}, {', '.join(f'{kind}://' for kind in batch_tables.KINDS)}"
        raise Invalid(f"{pattern.partition('://')[0]}:// cannot be read.", remedy=f"Known: files, {known}.")
    return FileRows(LocalFiles())


def writer(place: str) -> Files:
    """What writes below a place: `s3://bucket/prefix`, or a folder."""
    if "://" in place and not place.startswith(SCHEME):
        raise Invalid(f"{place} cannot be written to.", remedy="Name a folder, or s3://bucket/prefix.")
    if not place.startswith(SCHEME):
        return LocalFiles(Path(place))
    bucket, _, prefix = place.removeprefix(SCHEME).partition("/")
    return BucketFiles(bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else "")


def needed(pattern: str, *places: str) -> tuple[str, ...]:
    """The packages that reading a pattern and writing to places takes."""
    bucket = ("obstore",) if any(text.startswith(SCHEME) for text in (pattern, *places)) else ()
    return ("pyarrow", *bucket, *batch_tables.needed(pattern))
