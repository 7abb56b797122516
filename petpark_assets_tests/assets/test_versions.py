"""Claims about partitions: Dagster's list of versions is that of the manifests, whatever it was before."""

from pathlib import Path

import dagster as dg

from petpark_assets.assets.versions import DATASET_VERSIONS, show_versions
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.catalogue import manifest_key


def test_the_list_of_versions_follows_the_manifests(tmp_path: Path):
    """A version made by the terminal shows in the UI; one that exists only in the UI cannot be materialized."""
    home = open_home(tmp_path, actor="tester")
    for version in ("v0001", "v0002"):
        home.store.write_new(manifest_key(version), b"")
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(DATASET_VERSIONS.name), ["v0002", "v0009"])
        show_versions(instance, home)
        assert sorted(instance.get_dynamic_partitions(str(DATASET_VERSIONS.name))) == ["v0001", "v0002"]
