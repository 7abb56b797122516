"""Claims about what a run may be told: its recipe, and which lake or model is meant, and never which engines.

Whoever may launch would else send the token of Ray where they like, or write into the ledger what another store has.
"""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_definition import JobDefinition
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster_graphql.test.utils import execute_dagster_graphql, infer_job_selector

from petpark_assets import definitions
from petpark_assets.definitions import build_defs
from petpark_assets.resources.environments import Environment, read_environment
from petpark_assets_tests.answering import answering

ENVIRONMENT = Environment(name="local", home=Path("/the/home"), actor="tester", photos=None, ray_address=None)
JOBS = {job.name: job for job in sorted(build_defs(ENVIRONMENT).resolve_all_job_defs(), key=lambda job: job.name)}
ALL_ASSETS = "__ASSET_JOB"
"""Of the button Materialize. Dagster lets it be told of resources that do not exist, and nobody reads that."""
TOLD: dict[str, dict[str, Any]] = {
    "ray_jobs": {"address": "http://127.0.0.1:1"},
    "ray_cluster": {"address": "127.0.0.1:1"},
    "home": {"root": "/tmp/x", "actor": "eve", "store": "/tmp/x/store", "registry": "http://127.0.0.1:1"},  # noqa: S108
    "report_pages": {"base_url": "http://127.0.0.1:1"},
    "lake_watch": {"lake": "/tmp/x"},  # noqa: S108
    "s3": {"endpoint_url": "http://127.0.0.1:1"},
    "io_manager": {"base_dir": "/tmp/x"},  # noqa: S108
    "alerts": {"ui_url": "http://127.0.0.1:1"},
}
"""By resource: what would lead a run elsewhere."""
OPS = {"look_at_the_lake": {"config": {"lake": "/the/lake"}}}
LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on RunConfigValidationInvalid { errors { message } } } }"""
REEXECUTE = """mutation ($params: ReexecutionParams!) { launchPipelineReexecution(reexecutionParams: $params) {
    __typename ... on RunConfigValidationInvalid { errors { message } } ... on PythonError { message } } }"""
OFFERED = """query ($selector: PipelineSelector!) { runConfigSchemaOrError(selector: $selector, mode: "default") {
    ... on RunConfigSchema { rootConfigType { ... on CompositeConfigType { fields {
        name configType { ... on CompositeConfigType { fields { name } } } } } } } } }"""


def test_every_resource_is_tried():
    """One that is added later must not be left out here."""
    assert build_defs(ENVIRONMENT).resources.keys() - {"recipe"} == TOLD.keys()


@pytest.mark.parametrize("name", JOBS)
def test_a_run_is_offered_its_recipe_and_no_other_resource(name: str):
    """In the launchpad, too: what it shows is this."""
    fields = JOBS[name].run_config_schema.config_type.fields
    assert set(fields["resources"].config_type.fields) == {"recipe"}


@pytest.mark.parametrize("resource", TOLD)
@pytest.mark.parametrize("name", sorted(JOBS.keys() - {ALL_ASSETS}))
def test_a_run_that_is_told_of_another_is_refused(name: str, resource: str):
    """Before anything runs: also by a re-execution, which repeats what its parent was told."""
    told = {"resources": {resource: {"config": TOLD[resource]}}, **_ops(JOBS[name])}
    with pytest.raises(dg.DagsterInvalidConfigError, match=f'unexpected config entry "{resource}"'):
        dg.validate_run_config(JOBS[name], told)


def test_a_materialization_that_is_told_of_another_does_not_hear_it(tmp_path: Path):
    """Dagster checks the names of resources in named jobs alone."""
    environment = read_environment({"PETPARK_HOME": str(tmp_path / "home"), "PETPARK_ACTOR": "tester"})
    seen: list[str] = []

    @dg.asset(required_resource_keys=TOLD.keys() - {"io_manager"})
    def looks(context: dg.AssetExecutionContext) -> None:
        seen.extend(str(vars(getattr(context.resources, name))) for name in sorted(TOLD.keys() - {"io_manager"}))

    house = build_defs(environment)
    job = dg.Definitions(assets=[looks], resources=house.resources).resolve_job_def(ALL_ASSETS)
    assert job.execute_in_process(
        run_config={"resources": {name: {"config": config} for name, config in TOLD.items()}}
    ).success
    assert str(tmp_path / "home") in str(seen)
    assert not [text for text in seen if "/tmp/x" in text or "127.0.0.1:1" in text or "eve" in text]  # noqa: S108


@pytest.mark.parametrize("name", JOBS)
def test_how_steps_are_executed_is_not_for_a_run_to_say(name: str):
    """The server that forks them would import a module of anybody's choice."""
    told = {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": ["evil"]}}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match='unexpected config entry "start_method"'):
        dg.validate_run_config(JOBS[name], {**told, **_ops(JOBS[name])})


def test_what_steps_print_can_only_be_less_or_more():
    """A logger of Dagster's console has a name and a level, and is nobody else's."""
    for job in JOBS.values():
        (console,) = job.run_config_schema.config_type.fields["loggers"].config_type.fields.values()
        assert set(console.config_type.fields["config"].config_type.fields) == {"log_level", "name"}


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")  # Dagster's, of each schedule
def test_the_ui_launches_none_and_shows_the_recipe_alone():
    """By the same mutation as the launchpad, which asks for what to offer first."""
    with dg.instance_for_test() as instance, answering(instance, definitions) as ui:
        selector = infer_job_selector(ui, "new_dataset_version")
        shown = execute_dagster_graphql(ui, OFFERED, {"selector": selector}).data["runConfigSchemaOrError"]
        sections = {section["name"]: section["configType"] for section in shown["rootConfigType"]["fields"]}
        assert sections["resources"] == {"fields": [{"name": "recipe"}]}
        for resource, config in TOLD.items():
            told = {"resources": {resource: {"config": config}}, "ops": OPS}
            params = {"selector": selector, "runConfigData": json.dumps(told), "mode": "default"}
            answer = execute_dagster_graphql(ui, LAUNCH, {"params": params}).data
            assert answer["launchPipelineExecution"]["__typename"] == "RunConfigValidationInvalid", resource
            parent = instance.add_run(_failed_run(ui, told))
            again = {"parentRunId": parent.run_id, "strategy": "ALL_STEPS"}
            answer = execute_dagster_graphql(ui, REEXECUTE, {"params": again}).data
            assert f'unexpected config entry "{resource}"' in answer["launchPipelineReexecution"]["message"]
        assert len(instance.get_runs()) == len(TOLD)


def test_no_value_goes_between_steps(tmp_path: Path):
    """Steps hand each other records: nothing of theirs is pickled into a file, nor read from one."""
    environment = read_environment({"PETPARK_HOME": str(tmp_path / "home"), "PETPARK_ACTOR": "tester"})
    io_manager = build_defs(environment).resources["io_manager"]
    with dg.build_resources({"io_manager": io_manager}) as resources:
        resources.io_manager.handle_output(dg.build_output_context(), ("v0001", True))
        with pytest.raises(NotImplementedError, match="records"):
            resources.io_manager.load_input(dg.build_input_context())
    assert not any(tmp_path.rglob("*"))


def _ops(job: JobDefinition) -> dict[str, Any]:
    """Config of the ops that need some."""
    return {"ops": OPS} if job.name == "new_dataset_version" else {}


def _failed_run(ui: WorkspaceRequestContext, told: dict[str, Any]) -> dg.DagsterRun:
    """One of before, when it could be told of any resource."""
    (location,) = ui.code_locations
    (house,) = location.get_repositories().values()
    job = house.get_full_job("new_dataset_version")
    return dg.DagsterRun(
        job_name=job.name,
        run_config=told,
        status=dg.DagsterRunStatus.FAILURE,
        remote_job_origin=job.get_remote_origin(),
    )
