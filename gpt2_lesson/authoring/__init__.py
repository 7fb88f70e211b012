"""Authors' tools: from notebooks to the package's modules, and to pages."""
