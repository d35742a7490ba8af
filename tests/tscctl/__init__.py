"""`tscctl top` in a terminal, and `tscctl watch` in a pipe, before real agents on simulated hosts."""
