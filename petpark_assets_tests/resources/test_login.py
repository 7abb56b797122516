"""Who asks and what they may, by a request's headers and a run's tags. Not here: a real proxy (../proxy/)."""

import pytest

from petpark_assets.domain.errors import InvalidInput, NotAllowed
from petpark_assets.resources.login import Caller, approver_of, checked_secret, read_caller

SECRET = "0123456789abcdef" * 2
HEADERS = {"x-petpark-proxy": SECRET, "x-petpark-user": "ana", "x-petpark-role": "approver"}


def test_the_proxy_is_believed():
    """It alone knows the secret."""
    assert read_caller(HEADERS, SECRET) == Caller(user="ana", role="approver")


@pytest.mark.parametrize("missing", HEADERS)
def test_a_request_that_lacks_one_of_three_is_refused(missing):
    """A client can have a header dropped on its way through a proxy, and must not gain by it."""
    with pytest.raises(NotAllowed):
        read_caller({name: value for name, value in HEADERS.items() if name != missing}, SECRET)


@pytest.mark.parametrize("role", ["admin", "Approver", "approver, viewer", "daemon", ""])
def test_a_role_that_is_none_is_refused(role):
    """Also the daemon's, which no person has."""
    with pytest.raises(NotAllowed, match="viewer, operator, approver"):
        read_caller({**HEADERS, "x-petpark-role": role}, SECRET)


def test_a_name_of_any_alphabet_is_kept():
    """Servers hand bytes on as Latin-1."""
    user = "Ânä Жук"
    assert read_caller({**HEADERS, "x-petpark-user": user.encode().decode("latin-1")}, SECRET).user == user


@pytest.mark.parametrize("secret", ["", "short", "${PETPARK_PROXY_SECRET}", "with spaces, which a header might lose"])
def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(secret):
    """Apache leaves the name of a variable that is not set where its value should be: everybody knows that text."""
    with pytest.raises(InvalidInput, match="openssl rand -hex 32") as refusal:
        checked_secret(secret)
    assert secret not in str(refusal.value).replace("PETPARK_PROXY_SECRET", "") or not secret


def test_only_an_approver_approves():
    """Whoever else launches a promotion is told whom to ask; without a login there is nobody to check."""
    for has_login in (True, False):
        assert approver_of({"petpark/user": "ana", "petpark/role": "approver"}, has_login=has_login) == "ana"
        for role in ("viewer", "operator", "daemon"):
            with pytest.raises(NotAllowed, match=f"bob is {role}"):
                approver_of({"petpark/user": "bob", "petpark/role": role}, has_login=has_login)
    assert approver_of({}, has_login=False) is None
    with pytest.raises(NotAllowed, match="no role"):
        approver_of({}, has_login=True)  # whoever launched it did not come by the login
