"""`sesa-agent report`: a run or a comparison as one HTML page that needs nothing else."""
