"""Ways out of the station: what is said (`messages`), and how (`connection`, `mqtt`)."""
