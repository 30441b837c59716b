"""The chart, with the real helm and the real schemas of Kubernetes."""
