"""The record: a ledger of deployments that is only ever added to, and what people read from it."""
