"""Sweeps: a grid of trainings, each run and measured once, resumed after an interruption."""
