"""What tests compare with: independent implementations, small machines, and a second device on any machine."""
