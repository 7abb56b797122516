"""Model registration: versions.py holds the rules, mlflow_store.py what MLflow keeps for them."""
