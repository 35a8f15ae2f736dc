"""What keeps everybody who deploys from getting in each other's way: the lock with its generation, what the current
deployment knows, and the decisions about the route that respect both. Everything here changes by compare and swap.
"""
