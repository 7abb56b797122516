"""What several machines share in PostgreSQL: the ledger, and locks."""
