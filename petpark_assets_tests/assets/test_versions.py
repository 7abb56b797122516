"""Claims about partitions and attempts: the list is that of the manifests, and a run knows what it goes on with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster_graphql.test.utils import execute_dagster_graphql, infer_job_selector

from petpark_assets.assets.versions import ATTEMPT_TAG, DATASET_VERSIONS, show_versions
from petpark_assets.domain.attempts import Attempt, new_attempt
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.lake.catalogue import manifest_key
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets_tests.answering import answering
from petpark_assets_tests.assets import toy_house

TOLD: dict[str, Any] = {"recipe": "demo", "targets": {"accuracy": 0.3}, "hyperparameters": {"ema_decay": 0.5}}
OTHER = {**TOLD, "search": {"space": {"learning_rate": {"low": 0.01, "high": 0.1}}}}
LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
REEXECUTE = """mutation ($params: ReexecutionParams!) { launchPipelineReexecution(reexecutionParams: $params) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
"""As the UI sends it: it leaves the tags to Dagster, which takes over those of the parent."""


def test_the_list_of_versions_follows_the_manifests(tmp_path: Path):
    """A version made by the terminal shows in the UI; one that exists only in the UI cannot be materialized."""
    home = open_home(tmp_path, actor="tester")
    for version in ("v0001", "v0002"):
        home.store.write_new(manifest_key(version), b"")
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(DATASET_VERSIONS.name), ["v0002", "v0009"])
        show_versions(instance, home)
        assert sorted(instance.get_dynamic_partitions(str(DATASET_VERSIONS.name))) == ["v0001", "v0002"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of the toy house."""
    monkeypatch.setenv("PETPARK_HOME", str(tmp_path / "home"))
    return open_home(tmp_path / "home", actor="tester")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster, which launches runs in this process."""
    launcher = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
    with dg.instance_for_test({"run_launcher": launcher}) as instance:
        instance.add_dynamic_partitions(str(DATASET_VERSIONS.name), ["v0001"])
        yield instance


def _attempt(told: dict[str, Any]) -> Attempt:
    return new_attempt("v0001", RunRecipe(**told).resolve())


def _launched(ui: WorkspaceRequestContext, mutation: str, params: dict[str, Any]) -> dg.DagsterRun:
    """The run that the UI asked for, taken from the queue as the daemon does, as it ended."""
    (answer,) = execute_dagster_graphql(ui, mutation, {"params": params}).data.values()
    ui.instance.launch_run(answer["run"]["runId"], ui)
    run = ui.instance.get_run_by_id(answer["run"]["runId"])
    assert run is not None
    return run


def _examine(
    instance: dg.DagsterInstance, config: dict[str, Any], tags: dict[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    """Launch evaluation_report alone."""
    return toy_house.defs.resolve_job_def("build").execute_in_process(
        instance=instance,
        run_config={"resources": {"recipe": {"config": config}}},
        partition_key="v0001",
        asset_selection=[dg.AssetKey("evaluation_report")],
        tags=tags,
        raise_on_error=False,
    )


def _examined(result: dg.ExecuteInProcessResult) -> str:
    """The attempt that was examined."""
    assert result.success
    (made,) = result.asset_materializations_for_node("evaluation_report")
    return str(made.metadata["attempt"].value)


def _refusal(result: dg.ExecuteInProcessResult) -> str:
    """Why the run failed, without its traceback."""
    (failed,) = result.filter_events(lambda event: event.is_step_failure)
    error = failed.step_failure_data.error
    return str((error.cause or error).message).strip()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"targets": {"accuracy": 0.99}}, "targets.accuracy 0.99, where it was told 0.3"),
        ({"seed": 99}, "seed 99, where it was told 0"),
        ({"recipe": "laptop"}, 'recipe "laptop", where it was told "demo"'),
        ({"hyperparameters": {"ema_decay": 0.75}}, "hyperparameters.ema_decay 0.75, where it was told 0.5"),
        (
            {"search": {"space": {"batch_size": {"values": [8]}}}},
            'search.space {"batch_size":{"values":[8]}}, where it was told {"learning_rate":',
        ),
        ({"seed": 99, "targets": {"recall": 0.5}}, "targets.recall 0.5, where it was told 0.8; seed 99, where"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_part_of_an_attempt_is_not_told_otherwise(
    home: Home, instance: dg.DagsterInstance, config: dict[str, Any], words: str
):
    """Whoever sets a stricter target and sees a green run must not believe that the model reached it."""
    attempt = _attempt(TOLD)
    toy_house.begin(home, attempt)
    refusal = _refusal(_examine(instance, {**config, "attempt": attempt.id}))
    assert refusal.startswith("petpark_assets.domain.errors.InvalidInput: this run goes on with attempt ")
    assert words in refusal
    assert refusal.endswith(": leave that out, or launch from feature_scaling on, which begins another attempt")
    assert "\n" not in refusal


@pytest.mark.parametrize("config", [{}, {"seed": None, "hyperparameters": {}}, {"recipe": "demo"}, TOLD, OTHER])
def test_part_of_an_attempt_may_be_told_what_the_attempt_was(
    home: Home, instance: dg.DagsterInstance, config: dict[str, Any]
):
    """A re-execution repeats the whole config of its parent, and a launchpad left alone says nothing."""
    attempt = _attempt(OTHER)
    toy_house.begin(home, attempt)
    assert _examined(_examine(instance, config)) == attempt.id


def test_a_run_goes_on_with_what_its_config_names_else_with_its_tag(home: Home, instance: dg.DagsterInstance):
    """With several attempts, and neither, it is refused with the list."""
    first, second = _attempt(TOLD), _attempt(OTHER)
    for attempt in (first, second):
        toy_house.begin(home, attempt)
    tags = {ATTEMPT_TAG: first.id}
    assert _examined(_examine(instance, {}, tags)) == first.id
    assert _examined(_examine(instance, {"attempt": second.id}, tags)) == second.id
    assert "v0001 has several attempts: name one of" in _refusal(_examine(instance, {}))


def test_the_ui_goes_on_from_where_a_run_failed(home: Home, instance: dg.DagsterInstance):
    """Also of a version with several attempts: of which one, the failed run knew."""
    toy_house.begin(home, _attempt(OTHER))
    breaks = home.root / toy_house.BREAKS
    breaks.touch()
    with answering(instance, toy_house) as ui:
        parent = _launched(ui, LAUNCH, {
            "selector": infer_job_selector(ui, "build"),
            "runConfigData": {"resources": {"recipe": {"config": TOLD}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "v0001"}]},
            "mode": "default",
        })  # fmt: skip
        assert parent.status == dg.DagsterRunStatus.FAILURE
        breaks.unlink()
        again = _launched(ui, REEXECUTE, {"parentRunId": parent.run_id, "strategy": "FROM_ASSET_FAILURE"})
    assert again.asset_selection == {dg.AssetKey("evaluation_report")}
    assert again.status == dg.DagsterRunStatus.SUCCESS
    assert again.tags[ATTEMPT_TAG] == _attempt(TOLD).id
