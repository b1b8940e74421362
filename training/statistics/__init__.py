"""Statistics of a row, the law of them together, and the graph that turns a row into its anomaly score."""
