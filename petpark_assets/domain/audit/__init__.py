"""What an auditor asks: verification, lineage, history, pages and bundles, from records, manifests and the ledger."""
