"""One file per job: load by id, call a command, leave."""
