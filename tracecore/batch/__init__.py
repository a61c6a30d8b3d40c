"""Many jobs in many processes; knows no episode."""
