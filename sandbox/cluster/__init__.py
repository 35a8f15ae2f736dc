"""A small Kubernetes: API server, controllers, a kubelet that runs processes, a service proxy."""
