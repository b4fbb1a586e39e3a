"""Real PostgreSQL and Valkey servers as child processes, for laptops and tests."""
