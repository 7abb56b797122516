"""Who asks, and what they may: the proxy's headers, the roles, and the tags that name both on a run.

The login proxy (infra/proxy/) is the only one who knows the secret, so a request that carries it carries the proxy's
word for the rest. Not here: how a person proves who they are (infra/proxy/), what refuses a request (webserver.py),
or what stamps a run (run_coordinator.py).
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from petpark_assets.domain.errors import InvalidInput, NotAllowed

USER_HEADER = "X-Petpark-User"
ROLE_HEADER = "X-Petpark-Role"
SECRET_HEADER = "X-Petpark-Proxy"  # noqa: S105 - its name, not the secret

USER_TAG = "petpark/user"
"""Who asked for a run: what the proxy says, never what the client says."""
ROLE_TAG = "petpark/role"
"""As what they asked for it."""

LAUNCHED_BY_TAG = "user"
"""What Dagster's UI shows as a run's "Launched by"."""

VIEWER, OPERATOR, APPROVER = "viewer", "operator", "approver"
ROLES = (VIEWER, OPERATOR, APPROVER)
"""Each may do what those before it may: look; launch and stop; promote, and delete what is evidence."""
DAEMON = "daemon"
"""The user and the role of runs that nobody asked for: sensors, schedules. A role that may not promote."""

MIN_SECRET_LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A person (or the daemon) and one of their roles."""

    user: str
    role: str

    @property
    def tags(self) -> dict[str, str]:
        """Of the runs that they ask for; a sensor's or schedule's name stands where "Launched by" names nobody."""
        shown = {} if self.user == DAEMON else {LAUNCHED_BY_TAG: self.user}
        return {USER_TAG: self.user, ROLE_TAG: self.role, **shown}


def checked_secret(secret: str) -> str:
    """A secret that nobody guesses, or InvalidInput. It is never shown."""
    if len(secret) < MIN_SECRET_LENGTH or not secret.isalnum():
        raise InvalidInput(
            f"PETPARK_PROXY_SECRET must be {MIN_SECRET_LENGTH} letters and digits or more, the same for the proxy and "
            "Dagster's processes: make one with openssl rand -hex 32"
        )
    return secret


def read_caller(headers: Mapping[str, str], secret: str) -> Caller:
    """Who asks, by the headers of a request. Raises NotAllowed for one that does not come from the proxy.

    `headers` is looked up by lower-case name, as ASGI servers keep them.
    """
    if not hmac.compare_digest(headers.get(SECRET_HEADER.lower(), "").encode(), secret.encode()):
        raise NotAllowed("this request has not come by the login proxy: use its address")
    user, role = headers.get(USER_HEADER.lower(), ""), headers.get(ROLE_HEADER.lower(), "")
    if not user or role not in ROLES:
        raise NotAllowed(f"the login proxy gives user {user!r} the role {role!r}: it must be one of {', '.join(ROLES)}")
    return Caller(user=user.encode("latin-1").decode(errors="replace"), role=role)  # servers read bytes as Latin-1


def approver_of(tags: Mapping[str, str], *, has_login: bool) -> str | None:
    """Who approves, by the tags of the run that does it; None where there is no login, and the run has no role.

    Raises NotAllowed when whoever asked for the run is no approver, or has gone round the login that there is.
    """
    role = tags.get(ROLE_TAG)
    if role is None and not has_login:
        return None
    if role is None:
        raise NotAllowed("this run has no role, so nobody who logged in asked for it: launch it in the UI")
    if role != APPROVER:
        raise NotAllowed(f"{tags.get(USER_TAG)} is {role}, and only an approver may do this: ask one to launch it")
    return tags[USER_TAG]
