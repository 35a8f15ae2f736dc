"""The scripts of the image's `npm`: the service's own tests and checks, as its container runs them."""
