"""An organisation's OpenID Connect provider for tests: Django's users and login, django-oauth-toolkit's OpenID Connect.

`python -m petpark_assets_tests.proxy.provider PORT FOLDER REDIRECT_URI USERS` where USERS is JSON: name to groups.
Everybody's password is "password of NAME". Not here: who may do what.
"""

import json
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID = "petpark"
CLIENT_SECRET = "known to the provider and to the proxy"
LOGIN_FORM = '<form method="post">{% csrf_token %}{{ form }}<button>log in</button></form>'


def configure(port: int, folder: Path) -> None:
    """Django, as a provider on this port."""
    import django
    from django.conf import settings

    (folder / "registration").mkdir()
    (folder / "registration" / "login.html").write_text(LOGIN_FORM)
    settings.configure(
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="petpark_assets_tests.proxy.provider_urls",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # quick
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "users.sqlite"}},
        INSTALLED_APPS=[
            "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [folder], "APP_DIRS": True}],
        LOGIN_URL="/users/login/",
        SESSION_COOKIE_NAME="provider",  # cookies know no ports: the proxy has the same host
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": f"http://127.0.0.1:{port}/o",
            "OIDC_RSA_PRIVATE_KEY": _new_key(),
            "OAUTH2_VALIDATOR_CLASS": "petpark_assets_tests.proxy.provider_claims.WithGroups",
            "SCOPES": {"openid": "who you are", "profile": "your name", "groups": "your groups"},
            "PKCE_REQUIRED": True,
        },
    )  # fmt: skip
    django.setup()


def _new_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*pem).decode()


def fill(redirect_uri: str, users: dict[str, list[str]]) -> None:
    """The proxy as the one client, and people in groups."""
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    Application.objects.create(
        client_id=CLIENT_ID, client_secret=CLIENT_SECRET, redirect_uris=redirect_uri, skip_authorization=True,
        client_type="confidential", authorization_grant_type="authorization-code", algorithm="RS256",
    )  # fmt: skip
    for name, groups in users.items():
        user = User.objects.create_user(name, password=f"password of {name}")
        user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: the proxy asks while a browser waits."""

    daemon_threads = True


def main() -> None:
    """Serve until killed."""
    port, folder, redirect_uri, users = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
    configure(port, folder)
    fill(redirect_uri, users)
    from django.core.wsgi import get_wsgi_application

    make_server("127.0.0.1", port, get_wsgi_application(), server_class=Server).serve_forever()


if __name__ == "__main__":
    main()
