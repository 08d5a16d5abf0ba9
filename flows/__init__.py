"""What runs when. Prefect lives here and nowhere else."""
