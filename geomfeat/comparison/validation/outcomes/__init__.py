"""Families whose trainings are judged by their outcomes, not by a known output scale."""
