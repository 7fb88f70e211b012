"""What predictions and measurements should give, one file for each lesson."""
