"""What people look at after an evaluation: one HTML page, and tables for a paper."""
