"""What commands show: tables in several formats, and text that fits the width of a terminal."""
