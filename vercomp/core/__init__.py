"""What certificates are made of: torch alone. Packages carry the part of it that they need."""
