"""Criteria other than the likelihood and its bounds."""
