"""What is asked for: sweep files, workloads, and the cells they make."""
