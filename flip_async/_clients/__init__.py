"""What users make: they put the parts together, and close them."""
