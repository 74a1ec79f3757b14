"""The Ray executor. Only this folder imports Ray."""
