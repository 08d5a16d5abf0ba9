"""What is kept: schemas, shards, commits, digests, object stores. No torch, no Prefect."""
