"""How it is done: plain Python that has never heard of Dagster. A room imports only rooms before it in the flow."""
