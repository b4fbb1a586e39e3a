"""HTTP in, HTTP out: reads go straight to the store, writes through commands."""
