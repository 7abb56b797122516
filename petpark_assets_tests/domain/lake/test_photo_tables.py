"""Claims about a table's errors: damage is said to be damage, and nothing else is."""

import signal

import pyarrow as pa
import pytest

from petpark_assets.domain.errors import CorruptData, PermanentError
from petpark_assets.domain.lake.photo_tables import PhotoTable

PanicException = type("PanicException", (BaseException,), {})
"""By its name: that of Rust's cannot be imported."""
NO_DAMAGE = [
    OSError("LanceError(IO): External error: Too many concurrent writers"),
    OSError("Commit conflict for version 3"),
    OSError("Generic LocalFileSystem error: Unable to open file (os error 24)"),
    PanicException("OS can't spawn worker thread: Resource temporarily unavailable (os error 11)"),
    PanicException("Creating Tokio runtime: Os { code: 11, kind: WouldBlock }"),
    ValueError("offset overflow while concatenating arrays"),
    MemoryError("malloc failed"),
]
DAMAGE = [
    OSError("LanceError(IO): failed to fill whole buffer"),
    pa.ArrowInvalid("Invalid protobuf wire type"),
    PanicException("range end index 12 out of range for slice of length 4"),
]


def table(folder, location="table.lance"):
    """With texts for values."""
    place = location if "://" in location else str(folder / location)
    return PhotoTable(location=place, column=pa.field("word", pa.string()), mending="put it back")


class Failing:
    """A dataset whose reading ends so."""

    def __init__(self, error):
        self.error = error

    def to_table(self, columns):  # noqa: ARG002 - as Lance is asked
        """Raises it."""
        raise self.error


@pytest.mark.parametrize("error", NO_DAMAGE, ids=str)
def test_what_else_goes_wrong_is_no_damage(tmp_path, error):
    """Whoever is told to put a table back from a backup may do so."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - it is the same one
        table(tmp_path).sha256s(Failing(error))
    assert caught.value is error


@pytest.mark.parametrize("error", DAMAGE, ids=str)
def test_damage_is_one_line_with_what_to_do(tmp_path, error):
    """Lance has no error of its own for it."""
    with pytest.raises(CorruptData, match=r"table\.lance cannot be opened or read: .*: put it back$"):
        table(tmp_path).sha256s(Failing(error))


def test_on_s3_only_what_is_no_network_error_is_damage(tmp_path):
    """And a panic's text, which may hold a server's, is not passed on."""
    with pytest.raises(CorruptData) as caught:
        table(tmp_path, "s3://park/table.lance").sha256s(Failing(PanicException("hunter2")))
    assert "Lance panicked: put it back" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_newer_lance_is_named(tmp_path):
    """Nothing is wrong with such a table: nobody must delete it."""
    error = OSError("Not supported: This dataset cannot be read by this version of Lance. Please upgrade Lance")
    with pytest.raises(PermanentError, match="written by a newer version of Lance") as caught:
        table(tmp_path).sha256s(Failing(error))
    assert not isinstance(caught.value, CorruptData)


def test_an_interruption_while_lance_reads_is_one(tmp_path):
    """Lance looks for signals itself, and tells of them as of an error in the data."""

    def interrupt(*_):
        raise KeyboardInterrupt

    rows = [f"{number:064x}" for number in range(200_000)]
    written = table(tmp_path)
    written.commit(written.write(rows, pa.array(rows)))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay_s in (0.001, 0.002, 0.005, 0.01):
            with pytest.raises(KeyboardInterrupt):
                _read_until_interrupted(written, delay_s)
    finally:
        signal.signal(signal.SIGALRM, before)


def _read_until_interrupted(written, delay_s):
    signal.setitimer(signal.ITIMER_REAL, delay_s)
    dataset = written.open()
    while True:
        written.sha256s(dataset)
