"""What a place in a bucket can be asked: list, read, describe, create, delete. obstore's one home.

Every request is tried again while its trouble may pass (answers.patiently; obstore's own retries are off, since only
the caller of a creation can tell its own work from another's), and every refusal ends in one clear line. Callers work
in as many threads as they like: obstore lets go of the interpreter's lock.
Not here: what the keys mean (lake/sources.py, store.py), or big tables (Lance talks to S3 itself: storage_options).
"""

import contextlib
import dataclasses
import functools
import itertools
import operator
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from petpark_assets.domain import files
from petpark_assets.domain.errors import InvalidInput, NotFound, PermanentError
from petpark_assets.domain.s3 import answers, listing, versioning
from petpark_assets.domain.s3.access import Place, S3Access, parse_place
from petpark_assets.domain.s3.answers import Refused, explain, patiently, understand
from petpark_assets.domain.s3.listing import Listed

if TYPE_CHECKING:
    from obstore.store import S3Store as Client

SMALL_BYTES = 8 * 2**20
"""What is larger may take LARGE_STALL_S on its way to the server: while we send, it says nothing."""
LARGE_STALL_S = 300.0
LONGEST_READ_S = 3600.0
"""Reading is bounded by the server's silences; this only replaces obstore's 30 s for whole objects."""

NUM_DELETIONS = 16
"""Of old versions, at a time."""
_DELETING = "s3:DeleteObject, s3:GetBucketVersioning, s3:ListBucketVersions and s3:DeleteObjectVersion"
_LOOKING = "s3:GetBucketVersioning, s3:ListBucketVersions and s3:GetBucketObjectLockConfiguration"

_SHA256, _MARK = "petpark-sha256", "petpark-mark"
"""Metadata of what we write: our own digest (an ETag is one of some servers' and some objects' only), and who wrote."""


_OF_THE_OBJECT = {
    "InvalidObjectState": "it is archived: restore it to a storage class that can be read",
    "KMS.DisabledException": "the key it is encrypted with is disabled",
}
"""Refusals that are about one object, by the server's code; all others may be about every object."""


class UnreadableObject(PermanentError):
    """An object is there, and cannot be read until somebody does something about it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Described:
    """What a server tells of an object without its bytes."""

    sha256: str | None
    """As noted when it was written by us."""
    mark: str | None
    """Of the call that wrote it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bucket:
    """A place and who asks. Keys are below the place's prefix, and none is odd (access.odd_key)."""

    place: Place
    access: S3Access

    def check(self) -> None:
        """Raises the clear line, where the place cannot be used at all; before others ask its server (Lance)."""
        with self._refusals_explained("s3:ListBucket"):
            listing.ask_for_one(self.place, self.access)

    def list_objects(self, folder: str = "", after: str = "") -> Iterator[Listed]:
        """Objects, all or in a folder, after a key if any, in the order of their UTF-8; here alone keys may be odd."""
        with self._refusals_explained("s3:ListBucket"):
            yield from listing.list_objects(self.place, self.access, folder, after)

    def find(self, key: str) -> Listed | None:
        """An object as its listing shows it, but for parts of a second; None when it, or the bucket, is not there.

        An answer about an object that is not there does not say which of the two: `check` the bucket before many.
        """
        with self._refusals_explained("s3:GetObject", key):
            try:
                return patiently(lambda: self._find(key))
            except Refused as refused:
                if refused.answer.status == 404:
                    return None
                raise

    def read(self, key: str, num_bytes: int | None = None) -> bytes:
        """An object's bytes, or the first of them. Raises NotFound, UnreadableObject."""
        with self._refusals_explained("s3:GetObject", key):
            try:
                return patiently(lambda: self._get(key, num_bytes))
            except Refused as refused:
                if refused.answer.code == "InvalidRange":  # an empty object has no first byte
                    return b""
                raise

    def describe(self, key: str) -> Described | None:
        """What is known of an object; None when there is none."""
        with self._refusals_explained("s3:GetObject", key):
            try:
                return patiently(lambda: self._head(key))
            except Refused as refused:
                if not refused.answer.code:  # an answer to HEAD has no body: 404 may be the key's or the bucket's
                    listing.ask_for_one(self.place, self.access)
                if refused.answer.status == 404:
                    return None
                raise

    def create(self, key: str, data: bytes) -> bool:
        """Store an object whole, in one conditional request; False when the key is taken, and nothing was changed.

        When the answer to a try was lost, the next one may find the key taken by ourselves: the mark tells.
        """
        mark, tries = uuid.uuid4().hex, 0

        def put() -> bool:
            nonlocal tries
            tries += 1
            return self._put(key, data, mark)

        with self._refusals_explained("s3:PutObject"):
            if patiently(put):
                return True
        found = self.describe(key) if tries > 1 else None
        return found is not None and found.mark == mark

    def delete(self, key: str) -> None:
        """Remove an object for good, with all of its old versions; one that is not there is fine."""
        with self._refusals_explained(_DELETING):
            if versioning.has_versions(self.place, self.access):
                found = versioning.list_versions(self.place, self.access, key)
                self._delete_versions([version for version in found if version.key == self.place.folder + key])
            elif self.describe(key) is not None:
                patiently(lambda: self._delete(key))

    def delete_old_versions(self, folder: str = "") -> None:
        """Remove for good what was deleted or replaced, in all of the place or in a folder; what is there stays."""
        with self._refusals_explained(_DELETING):
            if versioning.has_versions(self.place, self.access):
                found = versioning.list_versions(self.place, self.access, f"{folder}/" if folder else "")
                self._delete_versions([version for version in found if not version.is_current])

    def check_deletable(self) -> None:
        """Raises InvalidInput where old versions could not be removed, as far as it can be known before."""
        with self._refusals_explained(_LOOKING):
            if not versioning.has_versions(self.place, self.access):
                return
            next(versioning.list_versions(self.place, self.access, ""), None)
            protection = versioning.what_protects(self.place, self.access)
        if protection is not None:
            raise InvalidInput(
                f"nothing can be removed for good from the {self.place.role} {self.place.uri}: its bucket keeps old "
                f"versions under {protection}; copy all of it to a bucket without, use that one, then run the same "
                "command again"
            )

    def _delete_versions(self, versions: Sequence[versioning.Version]) -> None:
        """The oldest first: stopped half-way, nothing that was deleted is back."""
        by_key = itertools.groupby(reversed(versions), key=operator.attrgetter("key"))

        def delete(group: Sequence[versioning.Version]) -> None:
            for version in group:
                versioning.delete_version(self.place, self.access, version)

        with ThreadPoolExecutor(NUM_DELETIONS, thread_name_prefix="delete") as pool:
            list(pool.map(delete, [list(group) for _, group in by_key]))

    def _get(self, key: str, num_bytes: int | None) -> bytes:
        import obstore

        options: Any = {} if num_bytes is None else {"range": (0, num_bytes)}
        answer = obstore.get(self._client(), self.place.folder + key, options=options)
        data = bytes(answer.bytes())
        start, end = answer.range
        if len(data) != end - start:
            raise ConnectionError(f"{len(data)} bytes came of {end - start}")
        return data

    def _head(self, key: str) -> Described:
        import obstore

        answer = obstore.get(self._client(), self.place.folder + key, options={"head": True})
        noted: dict[str, Any] = dict(answer.attributes)
        return Described(sha256=noted.get(_SHA256), mark=noted.get(_MARK))

    def _find(self, key: str) -> Listed:
        import obstore

        found = obstore.head(self._client(), self.place.folder + key)
        modified = found["last_modified"].strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return Listed(key, found["size"], (found["e_tag"] or "").strip('"'), modified)

    def _put(self, key: str, data: bytes, mark: str) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(
                self._client(answers.STALL_S if len(data) <= SMALL_BYTES else LARGE_STALL_S),
                self.place.folder + key,
                data,
                mode="create",
                use_multipart=False,  # some servers (Ceph 16) ignore the condition when a multipart upload ends
                attributes={_SHA256: files.sha256(data), _MARK: mark},
            )
        except AlreadyExistsError as error:
            if understand(error).is_passing:  # 409: it was being deleted at that moment
                raise
            return False
        return True

    def _delete(self, key: str) -> None:
        import obstore

        obstore.delete(self._client(), self.place.folder + key)

    def _client(self, stall_s: float | None = None) -> "Client":
        return _client(self.access, self.place.bucket, stall_s or answers.STALL_S)

    @contextlib.contextmanager
    def _refusals_explained(self, permission: str, key: str | None = None) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            answer = refused.answer
        else:
            return
        if key is not None and answer.code == "NoSuchKey":
            raise NotFound(f"{key} is not in the {self.place.role} {self.place.uri}")
        if key is not None and answer.code in _OF_THE_OBJECT:
            raise UnreadableObject(_OF_THE_OBJECT[answer.code])
        raise explain(answer, self.place, self.access, permission)


def read_address(uri: str, access: S3Access) -> bytes:
    """The bytes of one object by its address, as a table of labels has one. Raises InvalidInput, NotFound."""
    place = parse_place(uri, "folder")
    folder, _, key = place.prefix.rpartition("/")
    return Bucket(place=dataclasses.replace(place, prefix=folder), access=access).read(key)


@functools.lru_cache(maxsize=16)
def _client(access: S3Access, bucket: str, stall_s: float) -> "Client":
    """A client of this process, told all that it would otherwise take from the environment: workers have others."""
    from obstore.store import S3Store as Client

    keys: Any = {
        "access_key_id": access.access_key_id,
        "secret_access_key": access.secret_access_key,
        "token": access.session_token,
        "expires_at": None,
    }
    return Client(
        bucket,
        aws_endpoint_url_s3=access.endpoint,  # AWS_ENDPOINT_URL_S3 would win over `endpoint`
        region=access.region,
        credential_provider=lambda: keys,  # as settings, they would be joined by an AWS_SESSION_TOKEN of the process
        virtual_hosted_style_request=False,
        skip_signature=False,
        disable_bulk_delete=True,
        client_options={
            "allow_http": access.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=min(stall_s, answers.STALL_S) / 2),
            "read_timeout": timedelta(seconds=stall_s),
            "timeout": timedelta(seconds=LONGEST_READ_S),
        },
        retry_config={"max_retries": 0},
    )
