"""Advice before training: changes of a network, each verified by a forecast of the changed one."""
