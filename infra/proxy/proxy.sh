#!/usr/bin/env bash
# Start the login proxy in the foreground: `infra/proxy/proxy.sh password` or `infra/proxy/proxy.sh openid`.
# It stops on SIGTERM. It needs Debian's apache2-bin (and libapache2-mod-auth-openidc), no root, and these variables:
#
#   PETPARK_PROXY_LISTEN         where it listens: 127.0.0.1:8080; on other addresses only with TLS
#   PETPARK_PROXY_STATE          a folder of its own, for its process id and its log
#   PETPARK_PROXY_SECRET         what it shares with Dagster's processes: openssl rand -hex 32
#   PETPARK_PROXY_UI             host:port of python -m petpark_assets.webserver ...
#   PETPARK_PROXY_UI_READ_ONLY   ... and of the same with --read-only
#   PETPARK_PROXY_MLFLOW         host:port of MLflow's server
#   with reports: PETPARK_PROXY_REPORTS, host:port
#   with Ray's dashboard: PETPARK_PROXY_RAY, host:port, and PETPARK_PROXY_RAY_TOKEN, Ray's token
#   with password: PETPARK_PROXY_PASSWORDS (htpasswd -B), PETPARK_PROXY_ROLES (a line each: `ana approver`)
#   with openid: PETPARK_OIDC_METADATA_URL, PETPARK_OIDC_CLIENT_ID, PETPARK_OIDC_CLIENT_SECRET, PETPARK_OIDC_PASSPHRASE
#   for TLS: PETPARK_PROXY_CERTIFICATE, PETPARK_PROXY_KEY
#
# The secret, the token, the client's secret and the passphrase may each be given as the path of a file instead, by the
# same name with _FILE behind it: what variables a container has is shown to whoever may describe it.
set -euo pipefail

die() {
  echo "proxy.sh: $*" >&2
  exit 1
}

for name in PETPARK_PROXY_SECRET PETPARK_PROXY_RAY_TOKEN PETPARK_OIDC_CLIENT_SECRET PETPARK_OIDC_PASSPHRASE; do
  file="${name}_FILE"
  [ -n "${!file:-}" ] || continue
  [ -z "${!name:-}" ] || die "$name and $file are set: give one of them"
  value="$(cat "${!file}" 2>/dev/null)" || die "$file names ${!file}, which cannot be read"
  export "$name=$value"  # Apache fills its configuration in from its own variables
done

login="${1:-}"
needed="LISTEN STATE SECRET UI UI_READ_ONLY MLFLOW${PETPARK_PROXY_RAY:+ RAY_TOKEN}"
needed="$(printf 'PETPARK_PROXY_%s ' $needed)"
case "$login" in
  password) needed+="PETPARK_PROXY_PASSWORDS PETPARK_PROXY_ROLES" ;;
  openid) needed+="PETPARK_OIDC_METADATA_URL PETPARK_OIDC_CLIENT_ID PETPARK_OIDC_CLIENT_SECRET PETPARK_OIDC_PASSPHRASE" ;;
  *) die "the login is '$login': it must be password or openid" ;;
esac

missing=""
for name in $needed; do
  [ -n "${!name:-}" ] || missing+=" $name"
done
[ -z "$missing" ] || die "these variables are missing:$missing"
[[ "$PETPARK_PROXY_SECRET" =~ ^[[:alnum:]]{32,}$ ]] || die "PETPARK_PROXY_SECRET must be 32 letters and digits or more"

parts=()
[ -z "${PETPARK_PROXY_REPORTS:-}" ] || parts+=(-D reports)
[ -z "${PETPARK_PROXY_RAY:-}" ] || parts+=(-D ray)
if [ -n "${PETPARK_PROXY_CERTIFICATE:-}" ]; then
  parts+=(-D TLS)
elif [[ ! "$PETPARK_PROXY_LISTEN" =~ ^(127\.[0-9.]+|\[::1\]):[0-9]+$ ]]; then
  die "on $PETPARK_PROXY_LISTEN passwords would travel in the clear: set PETPARK_PROXY_CERTIFICATE and PETPARK_PROXY_KEY"
fi

PETPARK_PROXY_FOLDER="$(cd "$(dirname "$0")" && pwd)"
export PETPARK_PROXY_FOLDER PETPARK_PROXY_NAME="${PETPARK_PROXY_NAME:-localhost}"
mkdir -p "$PETPARK_PROXY_STATE"
PATH="$PATH:/usr/sbin"
command -v apache2 >/dev/null || die "needs Debian's apache2-bin: apt-get install apache2-bin libapache2-mod-auth-openidc"
exec apache2 -f "$PETPARK_PROXY_FOLDER/httpd.conf" -D "$login" "${parts[@]}" -D FOREGROUND
