"""What commands print at 80 and 120 columns, as text files."""
