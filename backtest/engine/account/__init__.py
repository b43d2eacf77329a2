"""What a broker charges, pays and allows."""
