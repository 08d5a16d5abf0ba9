"""What is computed: pure functions and torch modules. No Prefect, no scheduler, no global state."""
