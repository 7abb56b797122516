"""petpark_assets: from a lake of cat and dog photos to an audited, registered classifier, as Dagster assets."""
