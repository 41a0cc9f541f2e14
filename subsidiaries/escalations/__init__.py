"""ARP: every lost agent is replaced."""
