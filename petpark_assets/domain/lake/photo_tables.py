"""One Lance table of photos, in a folder or on S3: a row a photo, its sha256 and one value, its bytes or its pixels.

Lance's one home. Whoever reads photos writes fragments, files that no reader sees; whoever sent them out makes all of
them part of the table by one small commit, so photos never travel. Of commits at once all are in. No tags: one would
keep forgotten photos alive. Not here: which tables there are, and what their values are (pixels.py, originals.py).
"""

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, PermanentError, PetparkError, TransientError
from petpark_assets.domain.s3.access import access_of, parse_place
from petpark_assets.domain.s3.answers import explain, understand
from petpark_assets.domain.s3.bucket import Bucket

Fragment = str
"""What a commit must know of a fragment, as JSON: 300 bytes, whatever the number of photos in it."""

WHOLE_ROWS = 512
"""Photos in a fragment that is left as it is, ..."""
WHOLE_BYTES = 8 * 2**20
"""... or bytes."""
MOST_BYTES = 4 * WHOLE_BYTES
"""In a fragment that was joined of smaller ones."""
BATCH_ROWS = 64
"""Read at a time for that: photos may have megabytes each."""
MANY_FRAGMENTS = 100
"""That are not whole: with more, reading would slow down."""
NUM_SYNCED = 8
"""Files brought to the disk at a time: sixteen of 2 MB took 0.03 s, and one after the other 0.1."""
RUNS_A_COMMIT = 500
"""Runs of rows that are dropped by one condition: Lance takes it apart step by step, each on top of the last."""
READERS_TIME = timedelta(days=1)
"""How long files stay that a compaction made needless, for readers who opened the table before."""

_LAST_VERSION = 2**64 - 1
"""Lance counts its files' names down from here, so that the newest version is listed first."""

_SYSTEM_ERROR = re.compile(r"(?:os error |Os \{ code: )(\d+)")
_INTERRUPTED = re.compile(r"External error: \w*Interrupt")
"""A signal's exception that came while Lance was reading: it looks for signals itself, and takes them for errors."""
_NO_DAMAGE = re.compile(r"onflict|oncurrent|ot supported|version of Lance|overflow|ut of memory|llocat")
"""In what Lance and Arrow say when another was faster, or a limit was met: the files are as they were written."""
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class PhotoTable:
    """One value of each photo. Nothing is made before something is stored."""

    location: str
    """A folder, or `s3://bucket/prefix/96px.lance`."""
    column: pa.Field
    """Of the values."""
    mending: str
    """What a person does when a file of it is damaged."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Lance's, for S3: they hold keys."""

    @property
    def _folder(self) -> Path | None:
        return None if self.location.startswith("s3://") else Path(self.location)

    @functools.cached_property
    def _bucket(self) -> Bucket | None:
        """Where the table is, when on S3; asked whether it can be used at all, once."""
        return _checked_bucket(self.location, self.options) if self._folder is None else None

    def open(self) -> Any:
        """Lance's dataset as it is now; None where nothing was ever stored. Raises CorruptData, TransientError."""
        if self._bucket is None and not Path(self.location).exists():
            return None
        import lance  # 0.7 s and 140 MB that only those who touch photos pay

        with self._named_errors(), self._named_damage():
            try:
                return lance.dataset(self.location, storage_options=dict(self.options))
            except ValueError as error:
                if "was not found" not in str(error):
                    raise
                if self._bucket is None:  # the folder has no table: somebody made or emptied it
                    raise self._damaged(error) from error
                return None

    def sha256s(self, dataset: Any) -> pa.Array:
        """Of all rows in their order, some perhaps twice; 68 bytes a photo. Empty for None.

        Null where the file of a row is not there: its photo is missing for as long, and no other. Raises CorruptData.
        """
        if dataset is None:
            return pa.array([], pa.string())
        with self._named_errors(), self._named_damage():
            try:
                return _sha256_column(dataset)
            except (OSError, RuntimeError, ValueError) as error:
                if not _is_gone(error):
                    raise
            stored = self._stored_files()
            columns = (
                _sha256_column(item) if _files_of(item) <= stored else pa.nulls(item.count_rows(), pa.string())
                for item in dataset.get_fragments()
            )
            return pa.concat_arrays([pa.array([], pa.string()), *columns])

    def row_bytes(self, dataset: Any) -> npt.NDArray[np.float64]:
        """float64 [rows]: what each row has, on average over its file."""
        fragments = [] if dataset is None else dataset.get_fragments()
        means = [_size_bytes(fragment) / max(1, fragment.physical_rows) for fragment in fragments]
        return np.repeat(np.array(means), [fragment.count_rows() for fragment in fragments])

    def take(self, dataset: Any, places: Sequence[int]) -> pa.Array:
        """Values by the places of their rows; ten times faster when these rise. Raises CorruptData."""
        with self._reading(), self._named_damage():
            column = dataset.take(list(places), columns=[self.column.name]).column(self.column.name)
            return pa.concat_arrays(column.chunks)

    def write(self, sha256s: Sequence[str], values: pa.Array) -> list[Fragment]:
        """Store values, not yet to last, nor as a part of the table: see `commit`.

        Raises TransientError on a full disk; the table is then as it was.
        """
        if not sha256s:
            return []
        from lance.fragment import write_fragments

        table = pa.table([pa.array(sha256s, pa.string()), values], schema=self._schema())
        with self._reading():
            self._create_if_missing()
            made = write_fragments(table, self.location, storage_options=dict(self.options))
        return [json.dumps(fragment.to_json()) for fragment in made]

    def commit(self, fragments: Sequence[Fragment]) -> None:
        """Make fragments a part of the table, to last: all of them or, on any failure but the following, none.

        Raises TransientError when files of some are gone: somebody forgot a photo, and cleaned up, since they were
        written. Those are not in the table then, nor do they stay there when this happens at the very same moment.
        """
        if not fragments:
            return
        import lance

        added = [lance.FragmentMetadata.from_json(fragment) for fragment in fragments]
        written = {f"data/{file.path}" for fragment in added for file in fragment.files}
        with self._reading():
            if not written <= self._stored_files():
                raise self._overtaken()
            self._sync(written)  # here, not one by one as they are written: most are on the disk by now
            self._commit(lance.LanceOperation.Append(added), self.open())
            if self._drop_lost(written):
                raise self._overtaken()

    def file_names(self) -> list[str]:
        """The files, below the table, that make it up as it is now: a copy of them is a table with its rows alone.

        Forgetting, and tidying a day later, delete some of them: a copy that misses one is to be begun again.
        """
        dataset = self.open()
        if dataset is None:
            return []
        with self._named_errors(), self._named_damage():
            rows = _all_files(dataset)
        return [*sorted(rows), f"_versions/{_LAST_VERSION - dataset.version:020}.manifest"]

    def tidy(self, num_expected: int = 0) -> None:
        """Keep one row of each photo, and join small fragments where there are many. Safe beside readers and writers.

        With no more rows than expected no photo has two, and none is looked for. Where another changes the same
        fragments, it is left to them.
        """
        dataset = self.open()
        if dataset is None:
            return
        if dataset.count_rows() > num_expected:
            self._drop_repeated(dataset)
        fragments = dataset.get_fragments()
        small = [item for item in fragments if not _is_whole(item)]
        wanted = small if len(small) > MANY_FRAGMENTS else []
        wanted = [*wanted, *(item for item in fragments if item.num_deletions)]
        stored = self._stored_files() if wanted else set()
        if wanted and self._compact(dataset, [item for item in wanted if _files_of(item) <= stored]):
            with self._named_errors(), self._named_damage():
                dataset.cleanup_old_versions(older_than=READERS_TIME)
                self._sync_log()

    def _drop_repeated(self, dataset: Any) -> None:
        """Of rows about one photo, which two writers at once may have stored, the first stays: readers take that.

        None is dropped while a file is missing: its row may be the first.
        """
        if not _all_files(dataset) <= self._stored_files():
            return
        with self._reading(), self._named_damage():
            rows = dataset.to_table(columns=["sha256"], with_row_id=True)
            codes = rows["sha256"].combine_chunks().dictionary_encode().indices.to_numpy()
            is_repeated = np.ones(len(codes), np.bool_)
            is_repeated[np.unique(codes, return_index=True)[1]] = False
            runs = _runs(np.sort(rows["_rowid"].to_numpy()[is_repeated]))
            if not runs:
                return
            try:
                for start in range(0, len(runs), RUNS_A_COMMIT):
                    part = runs[start : start + RUNS_A_COMMIT]
                    dataset.delete(" OR ".join(f"_rowid BETWEEN {first} AND {last}" for first, last in part))
            except OSError as error:
                if "onflict" not in str(error) and not _is_gone(error):
                    raise
        self._sync_log()

    def forget(self, sha256s: Sequence[str]) -> None:
        """Delete photos, and every file that may still hold bytes of their rows: of past versions, of cut-off writes.

        A reader or an ingestion that is at work meanwhile fails with nothing lost, and is to be run again. Rows whose
        file is not there are no part of the table afterwards. Raises TransientError when the table keeps changing.
        """
        if self.open() is None:
            return
        if not all(_SHA256.fullmatch(sha256) for sha256 in sha256s):
            raise AssertionError(f"{sha256s!r} are not all sha256s")
        condition = "sha256 IN ({})".format(", ".join(f"'{sha256}'" for sha256 in sha256s))
        with self._reading(), self._named_damage():
            self._drop_lost()
            dataset = self.open()
            if sha256s and dataset.count_rows(condition):
                dataset.delete(condition)
            dataset = self.open()
            if not self._compact(dataset, [item for item in dataset.get_fragments() if item.num_deletions]):
                raise TransientError(f"the table {self.location} is being written to: run the same command again")
            self.open().cleanup_old_versions(
                older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
            )
            self._sync_log()
            self._drop_lost()  # what another made part of the table while it was cleaned up

    def _compact(self, dataset: Any, fragments: Sequence[Any]) -> bool:
        """Write fragments again, neighbours together; whether it could be done: not while another changes the same."""
        wanted = {item.fragment_id for item in fragments}
        others = [item.fragment_id for item in dataset.get_fragments() if item.fragment_id not in wanted]
        if not wanted:
            return True
        with self._reading(), self._named_damage():
            try:
                dataset.optimize.compact_files(
                    target_rows_per_fragment=WHOLE_ROWS,
                    max_bytes_per_file=MOST_BYTES,
                    materialize_deletions_threshold=0.0,
                    excluded_fragment_ids=others,
                    num_threads=1,
                    batch_size=BATCH_ROWS,
                )
            except (OSError, RuntimeError) as error:
                if "onflict" not in str(error) and not _is_gone(error):
                    raise
                return False
        return True

    def _schema(self) -> pa.Schema:
        return pa.schema([pa.field("sha256", pa.string()), self.column])

    def _create_if_missing(self) -> None:
        if self._folder is not None:
            if not self._folder.exists():
                _create_folder(self._schema(), self._folder)
        elif self.open() is None:
            import lance

            with contextlib.suppress(OSError, ValueError):  # another made it; if nobody did, writing will say why
                empty = self._schema().empty_table()
                lance.write_dataset(empty, self.location, mode="create", storage_options=dict(self.options))

    def _stored_files(self) -> set[str]:
        """Files of rows, and of what is deleted of them, below the table; one request for a thousand on S3."""
        folders = ("data", "_deletions")
        if self._bucket is not None:
            return {item.key for folder in folders for item in self._bucket.list_objects(folder)}
        paths = (path for folder in folders for path in (Path(self.location) / folder).glob("*"))
        return {f"{path.parent.name}/{path.name}" for path in paths}

    def _drop_lost(self, written: Iterable[str] | None = None) -> bool:
        """Take fragments out whose files, or which of these, are gone; whether there were any.

        Forgetting cleans up what nobody has committed, and somebody may be about to. Their photos are missing then,
        as if they had never been stored. Of other fragments a file may come back, with its disk or from a backup.
        """
        import lance

        dataset = self.open()
        gone = _all_files(dataset) if written is None else set(written)
        gone -= self._stored_files()
        lost = [item.fragment_id for item in dataset.get_fragments() if _files_of(item) & gone]
        if lost:
            try:
                self._commit(lance.LanceOperation.Delete([], lost, "their files are gone"), dataset)
            except OSError as error:  # another took them out, or joined them, or cleaned up, meanwhile
                if "onflict" not in str(error) and not _is_gone(error):
                    raise
        return bool(lost)

    def _commit(self, operation: Any, dataset: Any) -> None:
        import lance

        options = dict(self.options)
        lance.LanceDataset.commit(self.location, operation, read_version=dataset.version, storage_options=options)
        self._sync_log()

    def _overtaken(self) -> TransientError:
        return TransientError(
            f"files of {self.location} went away meanwhile, as they do when a photo is forgotten: run the same command "
            "again"
        )

    def _sync_log(self) -> None:
        """Small files, some microseconds each when they are on the disk already."""
        if self._folder is not None:
            logs = [self._folder / name for name in ("_versions", "_transactions")]
            names = [f"{log.name}/{path.name}" for log in logs if log.exists() for path in log.iterdir()]
            self._sync([*names, "_versions", "data", "."])

    def _sync(self, names: Iterable[str]) -> None:
        """Bring files to the disk, which Lance leaves to the system: a version must not outlive its photos."""
        if self._folder is not None:
            with ThreadPoolExecutor(NUM_SYNCED, thread_name_prefix="sync") as pool:
                list(pool.map(_sync, [self._folder / name for name in names]))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Named errors, with the remedy where a file went away between two looks."""
        with self._named_errors():
            try:
                yield
            except (OSError, RuntimeError, ValueError) as error:
                if not _is_gone(error):
                    raise
                raise self._overtaken() from None

    @contextlib.contextmanager
    def _named_damage(self) -> Iterator[None]:
        """One line where a file holds other bytes than were written.

        On S3 only where Lance was lost for words: its other errors there may as well be the network's.
        """
        try:
            yield
        except BaseException as error:
            if self._folder is None and not _is_panic(error):
                raise
            if "version of Lance" in str(error):
                raise PermanentError(
                    f"the table {self.location} was written by a newer version of Lance: install the version of "
                    "petpark that wrote it, or a later one"
                ) from error
            if not _is_damage(error):
                raise
            raise self._damaged(error) from (error if self._folder else None)

    def _damaged(self, error: BaseException) -> CorruptData:
        said = _one_line(error) if self._folder else "Lance panicked"  # a server's text may repeat a key
        return CorruptData(f"the table {self.location} cannot be opened or read: {said}: {self.mending}")

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Lance reports the disk's and the server's refusals as long texts of its own: give each its one line."""
        if self._folder is None:
            with _named_server_errors(self.location, self.options), _interruptible():
                yield
            return
        with files.named_disk_errors(self._folder), _interruptible():
            try:
                yield
            except (OSError, RuntimeError) as error:
                number = _SYSTEM_ERROR.search(str(error))
                if number and int(number[1]) in _OF_THE_DISK:
                    raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
                raise


def num_rows(fragments: Iterable[Fragment]) -> int:
    """How many photos they have."""
    return sum(int(json.loads(fragment)["physical_rows"]) for fragment in fragments)


def list_tables(root: str, options: Mapping[str, str]) -> list[str]:
    """Names of the tables below an address on S3, without their `.lance`."""
    import lance.namespace
    from lance_namespace import ListTablesRequest

    storage = {f"storage.{name}": value for name, value in options.items()}
    namespace: Any = lance.namespace
    _checked_bucket(root, options)
    with _named_server_errors(root, options):
        directory = namespace.DirectoryNamespace(root=root, **storage)
        return list(directory.list_tables(ListTablesRequest(id=[])).tables)


def delete_old_versions(root: str, options: Mapping[str, str]) -> None:
    """What a bucket keeps, below an address on S3, of deleted files: Lance knows nothing of it."""
    _checked_bucket(root, options).delete_old_versions()


@contextlib.contextmanager
def _named_server_errors(location: str, options: Mapping[str, str]) -> Iterator[None]:
    """Without the server's own text, which may repeat a key."""
    try:
        yield
    except PetparkError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        place, permissions = parse_place(location, "store"), "s3:GetObject and s3:PutObject"
        raise explain(understand(error), place, access_of(options), permissions) from None


def _checked_bucket(location: str, options: Mapping[str, str]) -> Bucket:
    bucket = Bucket(place=parse_place(location, "store"), access=access_of(options))
    bucket.check()
    return bucket


def _sha256_column(rows: Any) -> pa.Array:
    """Of a dataset or a fragment."""
    column = rows.to_table(columns=["sha256"]).column("sha256")
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())


def _all_files(dataset: Any) -> set[str]:
    return {name for fragment in dataset.get_fragments() for name in _files_of(fragment)}


def _runs(numbers: npt.NDArray[np.uint64]) -> list[tuple[int, int]]:
    """The first and the last of each run of successive numbers, which rise."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [(int(run[0]), int(run[-1])) for run in runs if len(run)]


def _files_of(fragment: Any) -> set[str]:
    """As they are named below the table."""
    deleted = fragment.deletion_file()
    return {f"data/{file.path}" for file in fragment.data_files()} | ({deleted} if deleted else set())


def _is_whole(fragment: Any) -> bool:
    """Whether a fragment is as large as they should be."""
    return bool(fragment.physical_rows >= WHOLE_ROWS or _size_bytes(fragment) >= WHOLE_BYTES)


def _size_bytes(fragment: Any) -> int:
    return sum(file.file_size_bytes or 0 for file in fragment.data_files())


def _sync(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # an empty table has no data; another may clean up
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _create_folder(schema: pa.Schema, folder: Path) -> None:
    """An empty table that appears by a rename; of two writers one wins.

    Lance's own creation is not safe in a folder: of three writers that created one table at once, in 9 of 25 rounds
    two were told it worked and one's rows were gone (lance 14.0.2). Its appends are.
    """
    import lance

    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        lance.write_dataset(schema.empty_table(), str(beside / folder.name), mode="create")
        (beside / folder.name / "data").mkdir(exist_ok=True)
        (beside / folder.name).rename(folder)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # Linux's words for a folder that exists
            raise
    finally:
        shutil.rmtree(beside)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Whoever presses Ctrl-C, or cancels a run, is told of no damage."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if _INTERRUPTED.search(str(error)):
            raise KeyboardInterrupt from error
        raise


def _is_gone(error: BaseException) -> bool:
    """Whether Lance looked for a file that is not there, or was writing it; it has no error of its own for that."""
    return "ot found: " in str(error) or f"(os error {errno.ENOENT})" in str(error)


def _is_damage(error: BaseException) -> bool:
    """Whether Lance, which has no error of its own for that, read what makes no sense, and nothing else went wrong."""
    text = str(error)
    if getattr(error, "errno", None) or _SYSTEM_ERROR.search(text) or _is_gone(error):
        return False
    if _INTERRUPTED.search(text) or _NO_DAMAGE.search(text) or isinstance(error, PetparkError):
        return False
    return _is_panic(error) or isinstance(error, OSError | RuntimeError | ValueError)


def _is_panic(error: BaseException) -> bool:
    """Of Rust: no Exception, and of a module that cannot be imported."""
    return type(error).__name__ == "PanicException"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
