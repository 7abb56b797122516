"""Claims about the door: what Dagster is shown, and that nobody has to guess what a thing is."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from petpark_assets.definitions import build_defs
from petpark_assets.resources.environments import PROFILES, Environment

FLOW = {
    "raw_images": ("ingestion", {"lake"}),
    "train_split": ("ingestion", {"raw_images"}),
    "test_split": ("ingestion", {"raw_images"}),
    "feature_scaling": ("training", {"train_split"}),
    "hyperparameter_search": ("training", {"train_split", "feature_scaling"}),
    "trained_cnn": ("training", {"train_split", "feature_scaling", "hyperparameter_search"}),
    "evaluation_report": ("testing", {"test_split", "trained_cnn"}),
    "onnx_package": ("packaging", {"trained_cnn", "evaluation_report"}),
    "registered_model": ("registration", {"onnx_package", "evaluation_report"}),
}
"""Each asset's group, which is a step of the workflow, and its parents."""
CHECKS = {
    "every_photo_is_counted_once": True,
    "no_photo_on_both_sides": True,
    "no_near_duplicate_on_both_sides": True,
    "split_is_80_to_20": False,
    "model_satisfies": True,
    "package_is_whole": True,
    "version_can_be_downloaded": False,
}
"""Each check, and whether it blocks what comes after."""


def _definitions(tmp_path: Path, name: str = "local") -> dg.Definitions:
    return build_defs(Environment(name=name, home=tmp_path, actor="tester", photos=None, ray_address=None))


@pytest.mark.parametrize("name", PROFILES)
def test_the_definitions_are_sound_in_every_environment(tmp_path: Path, name: str):
    """A mistake in a job or a resource must show here, not when somebody presses Materialize."""
    dg.Definitions.validate_loadable(_definitions(tmp_path, name))


def test_the_graph_is_the_workflow(tmp_path: Path):
    """Nine assets, grouped by the workflow's steps; the network's parents do not include the test side."""
    graph = _definitions(tmp_path).resolve_asset_graph()
    shown = {
        node.key.to_user_string(): (node.group_name, {parent.to_user_string() for parent in node.parent_keys})
        for node in graph.asset_nodes
        if node.is_materializable
    }
    assert shown == FLOW


def test_every_asset_says_what_it_is(tmp_path: Path):
    """A park employee reads the description, an auditor the code version, everybody the owner."""
    for node in _definitions(tmp_path).resolve_asset_graph().asset_nodes:
        assert node.description, node.key
        assert node.owners, node.key
        assert node.kinds, node.key
        if node.is_materializable:
            assert node.code_version, node.key
            assert node.partitions_def.name == "dataset_version", node.key


def test_checks_block_where_they_must(tmp_path: Path):
    """A check that does not block is only an opinion; the gate must be more."""
    graph = _definitions(tmp_path).resolve_asset_graph()
    shown = {key.name: graph.get_check_spec(key).blocking for key in graph.asset_check_keys}
    assert shown == CHECKS
    assert all(graph.get_check_spec(key).description for key in graph.asset_check_keys)


def test_the_jobs_are_described(tmp_path: Path):
    """The launchpad's list is read by people."""
    jobs = {job.name: job.description for job in _definitions(tmp_path).resolve_all_job_defs()}
    assert {"build", "new_dataset_version", "retrain"} <= jobs.keys()
    assert all(jobs[name] for name in ("build", "new_dataset_version", "retrain", "promote_model", "override_gate"))


def test_the_sensors_are_described_and_spend_nothing_unasked(tmp_path: Path):
    """What tells and what tidies up is on; what trains for hours by itself waits for a person to switch it on."""
    sensors = {sensor.name: sensor for sensor in _definitions(tmp_path).sensors}
    assert all(sensor.description for sensor in sensors.values())
    running = {name for name, sensor in sensors.items() if sensor.default_status == dg.DefaultSensorStatus.RUNNING}
    assert running >= {"run_failures", "stuck_runs"}
    assert "rejected_models" in sensors.keys() - running


def test_loading_the_definitions_imports_nothing_heavy(tmp_path: Path):
    """Every Dagster process would pay it: torch alone is 5 s and 500 MB."""
    heavy = ["torch", "torchvision", "ray", "mlflow", "lance", "onnxruntime", "matplotlib", "sklearn"]
    listed = f"[name for name in {heavy} if name in sys.modules]"
    script = f"import json, sys, petpark_assets.definitions; print(json.dumps({listed}))"
    environment = {"PETPARK_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
