"""Claims about the signature of a package: OpenSSF's own tool accepts it, and the private key stays where it is."""

import base64
import json
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from petpark_assets.domain import files
from petpark_assets.domain.audit import bundle, signature, trail, verifier
from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets_tests.domain.audit.drawn_home import FIRST, REJECTED, SECOND

PRIVATE = b"PRIVATE KEY"


@pytest.fixture(scope="module")
def signed(home, tmp_path_factory):
    """A folder with a package as downloaded, its signature, and the public key."""
    folder = tmp_path_factory.mktemp("signed")
    home.registry._copy_package(home.registry.show(1), folder / "package")
    for name, data in signature.sign_package(home, trail.find_model(home, FIRST)).items():
        (folder / name.rpartition("/")[2]).write_bytes(data)
    return folder


def _openssf(folder, package="package", key="public_key.pem", sig="package.sig"):
    """OpenSSF's command line, as the head of verify.py says it."""
    words = ["verify", "key", folder / package, "--signature", folder / sig, "--public_key", folder / key]
    return subprocess.run([sys.executable, "-m", "model_signing", *words], capture_output=True, text=True, check=False)


def _pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_openssf_accepts_what_was_downloaded(signed):
    """Whoever deploys the package need not trust us, nor have this platform."""
    done = _openssf(signed)
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr


def test_openssf_refuses_another_model_signature_or_key(signed, tmp_path):
    """Each of the three alone: a changed byte of the model, a signature of other bytes, a key of another owner."""
    for path in signed.rglob("*"):
        if path.is_file():
            files.replace(tmp_path / path.relative_to(signed), path.read_bytes())
    (tmp_path / "package" / "model.onnx").write_bytes(b"another model")
    done = _openssf(tmp_path)
    assert done.returncode == 1
    assert "model.onnx" in done.stderr
    forged = json.loads((signed / "package.sig").read_bytes())
    payload = json.loads(base64.b64decode(forged["dsseEnvelope"]["payload"]))
    for resource in payload["predicate"]["resources"]:
        if resource["name"] == "model.onnx":
            resource["digest"] = files.sha256(b"another model")
    forged["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    (tmp_path / "package.sig").write_text(json.dumps(forged))
    assert _openssf(tmp_path).returncode == 1
    other = signature._public_pem(tmp_path / "other_key.pem")
    (tmp_path / "other.pem").write_bytes(other)
    assert _openssf(signed, key=tmp_path / "other.pem").returncode == 1


def test_the_private_key_is_its_owners_alone_and_in_no_bundle(copy, tmp_path):
    """What is in a bundle goes to strangers; what others on the machine can read, they can sign with."""
    told = bundle.write_bundle(copy, "1", tmp_path / "m.zip")
    path = copy.root / signature.KEY_FOLDER / "private_key.pem"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    secret = b"".join(path.read_bytes().splitlines()[1:-1])
    assert PRIVATE in path.read_bytes()
    holders = [path for path in (*copy.root.rglob("*"), tmp_path / "m.zip") if path.is_file()]
    assert [found for found in holders if PRIVATE in (data := found.read_bytes()) or secret in data] == [path]
    assert secret.decode() not in json.dumps(told)


def test_the_key_may_be_elsewhere_and_is_made_once(copy, tmp_path):
    """A production keeps its keys apart from its data; a second bundle must not have another signer."""
    key, found = tmp_path / "keys" / "park.pem", trail.find_model(copy, FIRST)
    shutil.rmtree(copy.root / signature.KEY_FOLDER, ignore_errors=True)  # of other tests
    first = signature.sign_package(copy, found, key)
    assert signature.sign_package(copy, found, key) == first
    assert not (copy.root / signature.KEY_FOLDER).exists()
    assert signature.sign_package(copy, found)[verifier.PUBLIC_KEY] != first[verifier.PUBLIC_KEY]


def test_another_signature_of_the_same_package_says_the_same(copy):
    """The random part changes once the cache is gone; the bundle around it is whole all the same."""
    found = trail.find_model(copy, FIRST)
    before = bundle.build_files(copy, found)
    for path in (copy.cache / "signatures").iterdir():
        path.unlink()
    after = bundle.build_files(copy, found)
    assert {name for name in before if before[name] != after[name]} == {verifier.SIGNATURE, "SHA256SUMS"}
    payloads = [json.loads(told[verifier.SIGNATURE])["dsseEnvelope"]["payload"] for told in (before, after)]
    assert json.loads(base64.b64decode(payloads[0])) == json.loads(base64.b64decode(payloads[1]))


def test_a_kept_signature_of_other_bytes_is_never_handed_out(copy):
    """A cache may be damaged, or copied from elsewhere."""
    signature.sign_package(copy, trail.find_model(copy, FIRST))
    path = next((copy.cache / "signatures").iterdir())
    signature.sign_package(copy, trail.find_model(copy, SECOND))
    other = next(found for found in (copy.cache / "signatures").iterdir() if found != path)
    for data in (other.read_bytes(), path.read_bytes().replace(b'"sig":"M', b'"sig":"N'), b"{}", b"\xff"):
        path.write_bytes(data)
        with pytest.raises(CorruptData, match="does not sign the package: delete it"):
            signature.sign_package(copy, trail.find_model(copy, FIRST))


def test_a_package_that_was_changed_is_not_signed(copy):
    """Or the signature would vouch for what the exam never saw."""
    path = next((copy.root / "store" / "onnx_package" / "v0001" / FIRST).glob("model.onnx"))
    path.write_bytes(b"another model")
    with pytest.raises(CorruptData, match=r"model\.onnx"):
        signature.sign_package(copy, trail.find_model(copy, FIRST))


def test_a_rejected_model_is_not_signed(home):
    """It has no package; its bundle says that nobody signed."""
    assert signature.sign_package(home, trail.find_model(home, REJECTED)) == {}
    contents = bundle.build_files(home, trail.find_model(home, REJECTED))
    assert json.loads(contents["bundle.json"])["public_key"] is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"no key", "cannot be read as a PEM without a password"),
        (_pem(rsa.generate_private_key(65537, 2048)), "is on none of the curves"),
        (_pem(ec.generate_private_key(ec.SECP256K1())), "is on none of the curves"),
    ],
    ids=["text", "rsa", "another curve"],
)
def test_what_cannot_sign_is_refused_with_the_remedy(home, tmp_path, data, told):
    """A wrong path in a variable must not end in a traceback, nor be overwritten."""
    (tmp_path / "key.pem").write_bytes(data)
    with pytest.raises(InvalidInput, match=f"{told}.*PETPARK_SIGNING_KEY"):
        signature.sign_package(home, trail.find_model(home, FIRST), tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == data


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (verifier.PUBLIC_KEY, "it is not the key that bundle.json names"),
        (verifier.SIGNATURE, "it is of other files than the package's"),
    ],
)
def test_a_forger_who_mends_the_sums_is_found(home, tmp_path, name, told):
    """A bare Python cannot check the signature; it can tell that it is another key's, or of another package."""
    contents = bundle.build_files(home, trail.find_model(home, FIRST))
    others = signature.sign_package(home, trail.find_model(home, SECOND), tmp_path / "key.pem")
    assert (name, told) in verifier.verify({**contents, name: others[name]})
