"""Claims about the container files and the compose files, asked of their text: no Docker runs here.

The compose files are held against the published schema, every name that they use is looked up, and the claims that
matter are asked of every service.
"""

import contextlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import yaml

from petpark_assets.resources.environments import SECRETS, TABLE, enter_job, job_variables
from petpark_assets_tests.infra.machines import script_of, start
from petpark_assets_tests.infra.stack import INFRA, TEMPLATE
from petpark_assets_tests.postgres import PASSWORD, Postgres

PROJECT = INFRA.parent
ENVIRONMENTS = (PROJECT / "petpark_assets" / "resources" / "environments.py").read_text()
PROXY = INFRA / "proxy" / "proxy.sh"
OF_OTHERS = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "MLFLOW_SERVER_ALLOWED_HOSTS", "AWS_REGION"}
"""Variables of Ray, MLflow and AWS that they read by themselves."""
NOT_PASSED_ON = {
    "PETPARK_ACTOR": "the image's user, or who is named with `docker compose exec --env`",
    "PETPARK_PHOTOS": "for tests and benchmarks",
    "PETPARK_SIGNING_KEY": "the home's own, in its volume",
    "MLFLOW_TRACKING_USERNAME": "no proxy stands before MLflow's server there",
    "MLFLOW_TRACKING_PASSWORD": "the same",
    "DAGSTER_HOME": "set by petpark",
    "PETPARK_DAGSTER": "set by petpark",
}
"""Variables of the platform that no container is given, and why."""
OF_POSTGRES = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"}
"""Of the image `postgres`."""


def compose(name="compose.yaml"):
    """The file as data."""
    return yaml.safe_load((INFRA / name).read_text())


def services():
    """Every container by name."""
    return compose()["services"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.proxy"])
def test_no_container_runs_as_root(name):
    """The last USER is a number, which a cluster can compare with 0, and what is copied is root's."""
    lines = (INFRA / name).read_text().splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]
    assert not any("--chown" in line for line in lines)


def test_images_are_pinned_by_the_lock_and_name_no_registry():
    """The same packages as everywhere, each with its hash; a base image by its name alone."""
    text = (INFRA / "Dockerfile").read_text()
    assert "--require-hashes" in text
    assert "--constraint /opt/petpark/requirements.txt" in text
    makefile, uv = (PROJECT / "Makefile").read_text(), (INFRA / "uv.txt").read_text()
    assert re.match(r"uv==([\d.]+) ", uv)[1] == re.search(r"UV_VERSION := ([\d.]+)", makefile)[1]
    for installing in (text, makefile):
        (line,) = re.findall(r"-m pip install (.+)", installing)
        assert re.search(r"--require-hashes --requirement \S+/uv\.txt$", line)
    for name in ("Dockerfile", "Dockerfile.proxy"):
        bases = re.findall(r"^FROM (\S+)", (INFRA / name).read_text(), re.MULTILINE)
        assert all(re.fullmatch(r"[a-z]+:[a-z0-9.-]+", base) and not base.endswith(":latest") for base in bases)
        assert "://" not in (INFRA / name).read_text()


def test_databases_are_copied_by_programs_of_their_servers_version():
    """A pg_dump that is older than its server refuses: every backup of the cloud would fail."""
    bases = set(re.findall(r"--from=(postgres:\S+)", (INFRA / "Dockerfile").read_text()))
    assert bases == {services()["postgres"]["image"]}
    (version,) = {base.partition(":")[2].partition("-")[0] for base in bases}
    assert re.search(rf'EngineVersion: "{version}\.', TEMPLATE.read_text())
    assert f"/usr/lib/postgresql/{version}/bin/pg_dump " in (INFRA / "Dockerfile").read_text()


def test_the_cloud_needs_no_image_but_its_own():
    """The network leads to the account's own images, and to no public registry: the first start would wait for ever."""
    database = services()["postgres"]
    assert database["profiles"] == ["database"], "in the cloud it is RDS"
    images = {told["image"] for name, told in services().items() if name != "postgres"}
    assert images == {"${PETPARK_IMAGE:-petpark:latest}", "${PETPARK_PROXY_IMAGE:-petpark:proxy-latest}"}
    assert "psql" in str(services()["databases"]["command"])
    assert "/bin/psql /usr/local/bin/" in (INFRA / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.proxy"])
def test_what_is_copied_is_there_and_no_secret_is_sent_to_a_builder(name):
    """A file that is not there fails a build; one too many lies in an image for ever."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (INFRA / name).read_text(), re.MULTILINE)
    ignored = (INFRA / f"{name}.dockerignore").read_text().splitlines()
    assert ignored[-1] != "*"
    assert "*" in ignored
    for path in " ".join(copied).split():
        assert (PROJECT / path).exists()
        assert {f"!{path}", *(f"!{folder}" for folder in Path(path).parents)} & set(ignored)
        assert path not in ignored


def test_the_console_script_of_the_image_is_the_one_of_the_project():
    """The image writes it by hand, since its code is not to be installed by a build backend."""
    text = (INFRA / "Dockerfile").read_text()
    script = re.search(r"printf '(#![^']+)' > /opt/venv/bin/petpark", text)[1].replace("\\n", "\n")
    module, function = re.search(r'petpark = "([\w.]+):(\w+)"', (PROJECT / "pyproject.toml").read_text()).groups()
    assert f"from {module} import {function}\n{function}()" in script
    compile(script, "petpark", "exec")


def found_by(program, *words):
    """What a program beside this Python prints."""
    command = [Path(sys.executable).with_name(program), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.proxy"])
def test_a_linter_finds_nothing_in_a_dockerfile(name, tmp_path):
    """By hadolint, with shellcheck on every RUN; which does find what is wrong."""
    assert found_by("hadolint", INFRA / name) == ""
    wrong = tmp_path / name
    wrong.write_text((INFRA / name).read_text().replace("--no-install-recommends ", ""))
    assert "DL3015" in found_by("hadolint", wrong)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cloud.yaml"])
def test_compose_would_take_the_compose_files(name, tmp_path):
    """By the published schema, which check-jsonschema has with it; and it refuses a word that Compose does not know."""
    asked = ("--builtin-schema", "vendor.compose-spec")
    assert found_by("check-jsonschema", *asked, INFRA / name) == "ok -- validation done\n"
    wrong = tmp_path / name
    wrong.write_text((INFRA / name).read_text().replace("network_mode: ", "network_modus: "))
    assert "network_modus" in found_by("check-jsonschema", *asked, wrong)


@pytest.mark.parametrize("name", services())
def test_every_container_is_closed_in(name):
    """No root, no capability, no new privilege, no file system to write to: what breaks in finds little."""
    told = services()[name]
    assert told["user"] not in {"root", "0", "0:0"}
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert told["read_only"] is True
    assert "privileged" not in told
    assert not any("docker.sock" in str(volume) for volume in told.get("volumes", []))


def test_only_the_proxy_can_be_reached_from_outside():
    """Everything else has no login."""
    assert [name for name, told in services().items() if "ports" in told] == ["proxy"]
    assert [name for name, told in services().items() if told.get("network_mode") == "host"] == []


def test_no_secret_is_in_a_file_or_in_the_environment_of_the_compose_file():
    """Variables of a container are shown to whoever may describe it; secrets are files."""
    for told in services().values():
        variables = told.get("environment", {})
        # Of the images beside ours (the database's, the proxy's) we have no table: any word that such a name has.
        words = re.compile("PASSWORD|PASSPHRASE|TOKEN|SECRET")
        open_ = {name for name in variables if words.search(name) and variables[name][:1] != "/"}
        assert open_ | (variables.keys() & set(SECRETS)) == set()
        files = {path for name, path in variables.items() if name.endswith(("_FILE", "RAY_AUTH_TOKEN_PATH"))}
        assert files <= {f"/run/secrets/{secret}" for secret in told.get("secrets", [])}
    named = {secret for told in services().values() for secret in told.get("secrets", [])}
    assert named == set(compose()["secrets"])
    ignored = (PROJECT / ".gitignore").read_text().split()
    assert {"infra/secrets/", "infra/.env"} <= set(ignored)


def test_the_administrators_password_is_in_no_container_of_the_platform():
    """It would be enough to change the ledger."""
    has = {
        name for name, told in services().items() if {"database", "postgres_password"} & set(told.get("secrets", []))
    }
    assert has == {"postgres", "databases"}
    script = re.search(r"for name in (.+); do\n *printf '(.+?)'", TEMPLATE.read_text())
    assert script[1] == "dagster mlflow ledger"
    assert script[2].startswith("postgresql://%s:%s@")


def test_mlflows_container_has_the_secret_of_its_database_and_no_other():
    """Its server answers whoever reaches it: what breaks in there must not find Ray's token or the login's secret."""
    told = services()["mlflow"]
    assert told["secrets"] == ["mlflow"]
    files = {name for name in told["environment"] if name.endswith("_FILE")}
    assert files == {"MLFLOW_BACKEND_STORE_URI_FILE"}
    assert told["environment"]["PETPARK_ENV"] != "production", "which would demand the others"


def test_every_name_is_one_that_exists():
    """A container that waits for another under a name that was changed waits for ever."""
    told = services()
    assert {other for service in told.values() for other in service.get("depends_on", {})} <= told.keys()
    shared = {service[key].removeprefix("service:") for service in told.values() for key in ("network_mode", "ipc")
              if str(service.get(key, "")).startswith("service:")}  # fmt: skip
    assert shared <= told.keys()
    volumes = {str(volume).split(":")[0] for service in told.values() for volume in service.get("volumes", [])}
    assert {volume for volume in volumes if not volume.startswith((".", "/"))} == set(compose()["volumes"])
    assert set(compose("compose.cloud.yaml")["services"]) <= told.keys()
    for command in (service["command"] for service in told.values() if service.get("command", [""])[0] == "python"):
        assert (PROJECT / command[1]).exists()


def test_variables_of_containers_are_those_that_the_platform_reads():
    """A misspelt variable is one that is silently not set."""
    told = {variable for service in services().values() for variable in service.get("environment", {})}
    told = {re.sub(r"_FILE$", "", name) for name in told - OF_OTHERS - OF_POSTGRES}
    proxys = {name for name in told if name.startswith("PETPARK_PROXY_")}
    read = set(re.findall(r'"([A-Z][A-Z_]+)"', ENVIRONMENTS))
    assert told - proxys - read == set()
    assert {name for name in proxys if name not in PROXY.read_text()} == set()


def test_every_variable_of_the_platform_can_be_set_in_the_compose_file():
    """What an operator writes into `.env` and no container is given is silently ignored: alerts would not arrive."""
    told = {re.sub(r"_FILE$", "", name) for name in services()["code"]["environment"]}
    assert {row.name for row in TABLE} - told == NOT_PASSED_ON.keys()


def test_links_lead_to_where_the_proxy_serves_reports():
    """It has `/reports/` only where it is told who serves them, and links lead to its public name."""
    told, template = services(), TEMPLATE.read_text()
    assert told["proxy"]["environment"]["PETPARK_PROXY_REPORTS"] == "reports:3001"
    assert "echo PETPARK_PROXY_REPORTS=10.20.16.10:3001\n" in template
    assert " PETPARK_UI_URL=https://${PublicName}\n" in template
    assert " PETPARK_REPORTS_URL=https://${PublicName}/reports\n" in template


def test_the_machine_in_the_cloud_sets_what_the_compose_file_asks_for():
    """What `:?` demands, and nothing that nobody reads."""
    text = (INFRA / "compose.yaml").read_text()
    script = re.search(r"cat > \.env <<'END'\n(.+?) END\n", TEMPLATE.read_text(), re.DOTALL)[1]
    told = set(re.findall(r"^ +([A-Z_]+)=", script, re.MULTILINE)) - {"COMPOSE_FILE"}
    assert set(re.findall(r"\$\{([A-Z_]+):\?", text)) <= told
    assert told <= set(re.findall(r"\$\{([A-Z_]+)", text))
    started = re.search(r"--wait (.+)", TEMPLATE.read_text())[1].split()
    assert set(started) == services().keys() - {"postgres", "proxy"}


def test_ray_can_be_restarted_without_its_drivers():
    """A container that joined Ray's own network would keep the dead one: both join one that only sleeps."""
    told = services()
    for name in ("ray", "code"):
        assert (told[name]["network_mode"], told[name]["ipc"]) == ("service:node", "service:node")
        assert told[name]["depends_on"]["node"]["restart"] is True
    assert told["node"]["command"] == ["sleep", "infinity"]
    assert told["node"]["networks"] == {"default": {"aliases": ["ray"]}}
    assert "node" not in compose("compose.cloud.yaml")["services"]  # networks and network_mode exclude each other


def test_jobs_go_to_the_head_that_there_is():
    """Without a job server a training would take the cores of the code server's machine, and no GPU."""
    told = services()
    assert told["code"]["environment"]["RAY_API_SERVER_ADDRESS"] == "http://${PETPARK_LISTEN:-ray}:8265"
    assert told["proxy"]["environment"]["PETPARK_PROXY_RAY"] == "ray:8265"
    words = told["ray"]["command"]
    assert words[:3] == ["ray", "start", "--head"]
    assert words[words.index("--dashboard-port") + 1] == "8265"
    assert words[words.index("--dashboard-host") + 1] == "${PETPARK_LISTEN:-0.0.0.0}"
    assert told["ray"]["environment"]["PETPARK_HOME"] == told["code"]["environment"]["PETPARK_HOME"]


def test_a_node_of_gpus_has_what_a_job_needs_and_no_more(monkeypatch, tmp_path):
    """It is told the store by the job; of the platform's secrets it has Ray's token alone, and that as a file."""
    script = script_of("GpuTemplate")
    assert re.findall(r"--secret-id '(.+?)'", script) == ["raytoken"]
    named = start(script, tmp_path).variables()
    assert named.keys() == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "AWS_REGION"}
    assert f"--volume {named['RAY_AUTH_TOKEN_PATH']}:{named['RAY_AUTH_TOKEN_PATH']}:ro " in script
    image = re.search(r"^ENV (PATH=(?:.*\\\n)*.*)$", (INFRA / "Dockerfile").read_text(), re.MULTILINE)[1]
    known = dict(word.split("=") for word in image.replace("\\\n", " ").split()) | dict.fromkeys(named, "x")
    for name in os.environ.keys() - {"PATH"}:
        if name.startswith(("PETPARK_", "RAY_", "MLFLOW_", "AWS_", "DAGSTER_")):
            monkeypatch.delenv(name)
    for name, value in {**known, **job_variables("s3://store/petpark", "ada")}.items():
        monkeypatch.setenv(name, value)
    for name in ("PETPARK_DAGSTER", "DAGSTER_HOME", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")  # enter_job sets them: undone afterwards
    environment = enter_job(Path("/the/steps/own"))
    assert (environment.name, environment.home) == ("production", Path("/var/lib/petpark/home"))
    assert (environment.store, environment.actor) == ("s3://store/petpark", "ada")


@pytest.mark.debian
def test_the_databases_are_made_once_and_each_role_enters_its_own(postgres: Postgres):
    """Every start of the platform runs it again; whoever has the platform's passwords changes no ledger."""
    names = ("dagster", "mlflow", "ledger")
    told = {**os.environ, "PGPASSWORD": PASSWORD, "PETPARK_PLATFORM_PASSWORD": "its own"}
    psql = [postgres.programs / "psql", "--file", INFRA / "databases.sql", "--file", INFRA / "ledger.sql"]
    try:
        for created in (3, 0):
            made = subprocess.run([*psql, postgres.address], capture_output=True, text=True, check=False, env=told)
            assert made.returncode == 0, made.stderr
            assert made.stdout.count("CREATE DATABASE") == created
        for role, name in itertools.product(names, names):
            told = {"host": "127.0.0.1", "port": postgres.port, "user": role, "dbname": name, "password": "its own"}
            with contextlib.nullcontext() if role == name else pytest.raises(psycopg.OperationalError):
                psycopg.connect(**told).close()
    finally:
        postgres.run(*(f"DROP DATABASE IF EXISTS {name}" for name in names), *(f"DROP ROLE {name}" for name in names))


OF_THE_PROXY = {
    "PETPARK_PROXY_SECRET": "0123456789abcdef" * 2,
    "PETPARK_PROXY_RAY_TOKEN": "of ray",
    "PETPARK_OIDC_CLIENT_SECRET": "$of 'the client'",
    "PETPARK_OIDC_PASSPHRASE": "of cookies",
}
"""Its secrets."""


def started_proxy(folder, **secrets):
    """What proxy.sh says, or the variables of the Apache that it starts: a stand-in, which prints them."""
    apache = folder / "bin" / "apache2"
    apache.parent.mkdir(exist_ok=True)
    apache.write_text("#!/bin/sh\nexec env\n")
    apache.chmod(0o755)
    named = set(re.findall(r"\bPETPARK_(?:PROXY|OIDC)_[A-Z_]+\b", PROXY.read_text())) - OF_THE_PROXY.keys()
    given = {name: "x" for name in named if not name.endswith("_FILE")} | {"PETPARK_PROXY_STATE": str(folder / "state")}
    told = {"PATH": f"{apache.parent}:/usr/bin:/bin", **given, **secrets}
    done = subprocess.run([PROXY, "openid"], env=told, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout or done.stderr


def test_the_proxy_takes_its_secrets_from_files(tmp_path):
    """All of them: what variables a container has is shown to whoever may describe it."""
    for name, secret in OF_THE_PROXY.items():
        (tmp_path / name).write_text(f"{secret}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in OF_THE_PROXY}
    known = started_proxy(tmp_path, **files).splitlines()
    assert {f"{name}={secret}" for name, secret in OF_THE_PROXY.items()} <= set(known)
    for name in OF_THE_PROXY:
        twice = started_proxy(tmp_path, **files, **{name: "another"})
        assert twice == f"proxy.sh: {name} and {name}_FILE are set: give one of them\n"
        nowhere = started_proxy(tmp_path, **{**files, f"{name}_FILE": "/nowhere"})
        assert nowhere == f"proxy.sh: {name}_FILE names /nowhere, which cannot be read\n"


def test_the_proxys_image_starts_what_is_there():
    """Its entry point is the script that infra/proxy/ has."""
    text = (INFRA / "Dockerfile.proxy").read_text()
    assert re.search(r'ENTRYPOINT \["/opt/petpark/(.+)"\]', text)[1] == PROXY.relative_to(PROJECT).as_posix()
    assert Path(PROXY).exists()
