"""A service under load: real servers, concurrent clients, and every acknowledged write asked for afterwards."""
