"""The signature of a model's package, by OpenSSF model-signing with an elliptic-curve key of this machine.

Who has the package's folder (`petpark registry download`) and the public key checks it with OpenSSF's own tool:

    python -m model_signing verify key FOLDER --signature package.sig --public_key public_key.pem

The private key is made at first use, for its owner alone to read, and leaves its file for no other place. What is
signed follows from the package, the signature does not: its mathematics has a random part. The first one is kept in the
cache, so that the same home gives the same bundle.
Not here: which files a package has (package/contents.py), the check without any library (verifier.py).
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from petpark_assets.domain.audit.trail import Trail, file_keys
from petpark_assets.domain.audit.verifier import PUBLIC_KEY, SIGNATURE
from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.files import get_verified, named_disk_errors, replace, sha256, write_new
from petpark_assets.domain.home import MODEL_NAME, Home

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

KEY_FOLDER = "signing"
"""Of the home: what is in it never leaves the machine."""
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""That model-signing 1.1 takes."""


def sign_package(home: Home, found: Trail, key_file: Path | None = None) -> dict[str, bytes]:
    """The signature of a model's package and the public key, by name; nothing where nothing was packaged.

    Args:
        home: holds the package.
        found: the model.
        key_file: the private key in PEM, made if it is not there; None for the home's own.

    Raises NotFound and CorruptData when a file of the package is not as it was, InvalidInput for what is no such key.
    """
    if found.package is None:
        return {}
    key_file = key_file or home.root / KEY_FOLDER / "private_key.pem"
    public = _public_pem(key_file)
    kept = home.cache / "signatures" / f"{found.package}-{sha256(public)}.sig"
    with tempfile.TemporaryDirectory(prefix="petpark-") as scratch:
        folder = Path(scratch) / MODEL_NAME  # its name is part of what is signed
        _copy_package(home, found, folder)
        if not kept.exists():
            _sign(folder, key_file, kept)
        _verify(folder, kept, public)
    return {SIGNATURE: kept.read_bytes(), PUBLIC_KEY: public}


def _copy_package(home: Home, found: Trail, folder: Path) -> None:
    """Every file that the package's record names, verified, and no other."""
    folder.mkdir()
    for asset, name, expected in found.files():
        if asset == "onnx_package":
            key = file_keys(asset, found.dataset_version, found.attempt, name, expected)[0]
            (folder / name).write_bytes(get_verified(home.store, key, expected))


def _sign(folder: Path, key_file: Path, kept: Path) -> None:
    """What is ignored is said, since by default it is a set, whose order differs from process to process."""
    from model_signing import hashing, signing

    made = folder.with_name("package.sig")
    everything = hashing.Config().set_ignored_paths(paths=(), ignore_git_paths=False)
    signing.Config().set_hashing_config(everything).use_elliptic_key_signer(private_key=key_file).sign(folder, made)
    replace(kept, made.read_bytes())


def _verify(folder: Path, kept: Path, public: bytes) -> None:
    """As the auditor will: what is kept may be damaged, or of another package."""
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    key = folder.with_name("public_key.pem")
    key.write_bytes(public)
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, kept)
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise CorruptData(f"{kept} does not sign the package: delete it, it is a copy and is made again") from error


def _public_pem(key_file: Path) -> bytes:
    """The public half in PEM; both halves are made where there is none."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not key_file.exists():
        _make_key(key_file)
    return _read_key(key_file).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _make_key(key_file: Path) -> None:
    """Of two processes that come first at once, one makes it."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(SECP256R1())
    with named_disk_errors(key_file):
        key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_new(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)


def _read_key(key_file: Path) -> "EllipticCurvePrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"the signing key {key_file} cannot be read as a PEM without a password: {_MEND}") from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise InvalidInput(f"the signing key {key_file} is on none of the curves {', '.join(_CURVES)}: {_MEND}")
    return key


_MEND = "point PETPARK_SIGNING_KEY at a file that is not there yet, and a key is made in it"
