"""Claims about infra/ray-cluster.yaml: Ray's own validation takes it, and its nodes ask for a token."""

import re
import shlex

import pytest
import yaml

from petpark_assets_tests.infra.stack import INFRA, TEMPLATE


@pytest.fixture
def cluster():
    """The file as data."""
    return yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())


def validated(cluster):
    """What `ray up` would work with, or its refusal."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster)
    validate_config(prepared)
    return prepared


def test_ray_takes_the_file(cluster):
    """Every machine is a node, and no more are ever asked for."""
    prepared = validated(cluster)
    (nodes,) = prepared["available_node_types"].values()
    assert nodes["max_workers"] == prepared["max_workers"] == len(cluster["provider"]["worker_ips"])


@pytest.mark.parametrize("wrong", [{"max_workerz": 4}, {"docker": {"image": 1}}, {"provider": {"type": "locl"}}])
def test_and_refuses_a_wrong_one(cluster, wrong):
    """A validation that takes everything shows nothing."""
    with pytest.raises(Exception, match=r"max_workerz|docker|container|locl|provider"):
        validated({**cluster, **wrong})


def test_every_node_asks_for_the_token_and_none_is_root(cluster):
    """Whoever reaches an open cluster runs code on it."""
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in cluster[commands] if "ray start" in command]
        assert len(starts) == 1
        assert all(
            command.startswith("RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/etc/petpark/ray_token") for command in starts
        )
    assert cluster["auth"]["ssh_user"] != "root"
    assert {"--cap-drop ALL", "--security-opt no-new-privileges"} <= set(cluster["docker"]["run_options"])


def test_no_secret_is_in_a_containers_variables(cluster):
    """Who may ask Docker what a container is has them otherwise: they are files that its user alone can read."""
    told = cluster["docker"]
    options = [option for name, listed in told.items() if name.endswith("run_options") for option in listed]
    variables = [option.removeprefix("--env ") for option in options if "env" in option.split()[0]]
    assert sorted(variables) == ["AWS_REGION=eu-central-1", "AWS_SHARED_CREDENTIALS_FILE=/etc/petpark/aws_credentials"]
    mounted = {option.split()[1].split(":")[0] for option in options if option.startswith("--volume /")}
    assert mounted == {"/etc/petpark/ray_token", "/etc/petpark/aws_credentials"}
    refused = {f'test "$(stat -c %u:%a {path})" = 10001:400' for path in mounted}
    assert refused == set(cluster["initialization_commands"])


def test_every_node_of_ray_keeps_to_the_ports_that_are_open(cluster):
    """One that listens elsewhere joins, and whoever asks it waits for ever."""
    from ray.scripts.scripts import start

    commands = {
        "the head": " ".join(yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]["ray"]["command"]),
        "a node": re.search(r"ray start --address.+?(?=\n +- )", TEMPLATE.read_text(), re.DOTALL)[0].replace(
            "\\\n", " "
        ),
        "one's own head": cluster["head_start_ray_commands"][-1],
        "one's own node": cluster["worker_start_ray_commands"][-1],
    }
    for command in commands.values():
        words = shlex.split(command.partition("ray start")[2])
        told = start.make_context("ray start", words).params
        listening = {told[name] for name in told if name.endswith("_port")} - {None}
        assert {6380, 6381, 6382, 6383, 6384, 10002, 10999} <= listening <= {*range(6379, 6385), 8265, 10002, 10999}


def test_every_node_has_the_keys_of_the_store_and_keeps_its_caches(cluster):
    """A job finds its photos in the store; what its trials had come to is in the home."""
    options = cluster["docker"]["run_options"]
    assert "--volume /etc/petpark/aws_credentials:/etc/petpark/aws_credentials:ro" in options
    assert "--env AWS_SHARED_CREDENTIALS_FILE=/etc/petpark/aws_credentials" in options
    assert "PETPARK_HOME=/var/lib/petpark/home" in (INFRA / "Dockerfile").read_text()
    assert "--volume petpark:/var/lib/petpark" in options
