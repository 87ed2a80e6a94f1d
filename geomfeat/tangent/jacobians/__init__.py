"""Jacobians of a network in its parameters: rows, products, and checks that derivatives are right."""
