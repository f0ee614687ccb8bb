"""What a command or a report says of certificates: rows, arrays and their summaries."""
