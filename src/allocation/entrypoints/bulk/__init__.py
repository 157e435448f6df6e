"""Import and export of CSV files of any size."""
