"""One recipe a study. `sections` holds what recipes have in common."""
