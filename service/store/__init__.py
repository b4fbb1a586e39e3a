"""SQL and only SQL: every function takes the transaction first."""
