"""Background workers: told by the queue to look at the database, one file per job."""
