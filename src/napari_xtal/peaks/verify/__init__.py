"""Which of the found peaks are real: patches, networks, support vector machines, reports."""
