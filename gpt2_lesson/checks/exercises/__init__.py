"""The exercises: one file for each lesson, with right answers and known mistakes."""
