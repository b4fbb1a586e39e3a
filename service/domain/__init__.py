"""Rules and values of conversations: pure, no I/O, standard library and msgspec only."""
