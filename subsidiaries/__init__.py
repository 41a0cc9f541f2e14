"""The 35 companies at work: replacement (ARP), training (TMS), performance (PMON), mentoring, work."""
