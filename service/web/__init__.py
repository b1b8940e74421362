"""Pages for people: what is served, and samples one at a time. They work without scripts."""
