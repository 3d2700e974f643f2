"""Bases and helpers that models are made of; not models themselves."""
