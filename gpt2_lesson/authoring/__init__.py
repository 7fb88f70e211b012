"""Tools for authors: from notebooks to the package's modules and to pages."""
