"""What shall stay true around each input, in the words of the user's question."""
