"""What models are made of; not models themselves."""
